"""A search as it stands, as JSON types: what `search status --json` answers with."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from scalelab.readers.optuna_trials import WORK

if TYPE_CHECKING:
    from optuna import Study

    from scalelab.search_views import SearchView, Tried


def status(
    found: "SearchView", weights: Mapping[str, float] | None, study: "Study", living: Collection[str], *, now: float
) -> dict[str, Any]:
    """What the console shows, and every trial; `cost_unit` says what costs, `spent` and `saved` count.

    Args:
        found: the study, read.
        weights: the importances of its parameters, None where there are too few trials.
        study: for who is at work on what.
        living: the drivers that are seen.
        now: seconds since 1970.
    """
    return {
        "study": found.name,
        "objectives": list(found.objectives),
        "cost_unit": found.cost,
        "outcomes": found.counts("outcome"),
        "spent": found.spent,
        "saved": found.saved,
        "best": None if found.best is None else _tried(found.best),
        "front": [_tried(each) for each in found.front],
        "importances": None if weights is None else dict(weights),
        "drivers": sorted(living),
        "running": [
            {"number": trial.number, "params": dict(trial.params), **_work(trial.user_attrs.get(WORK, {}), living, now)}
            for trial in study.get_trials(deepcopy=False)
            if trial.state.name == "RUNNING"
        ],
        "trials": [_tried(each) for each in found.tried],
    }


def _tried(each: "Tried") -> dict[str, Any]:
    return {"loss_nats" if name == "loss" else name: value for name, value in asdict(each).items()}


def _work(work: Mapping[str, Any], living: Collection[str], now: float) -> dict[str, Any]:
    owner = work.get("owner")
    return {
        "driver": owner,
        "driver_is_seen": owner in living,
        "seconds": now - work["since"] if "since" in work else None,
        "tickets": sorted(set(work.get("tickets", {}).values())),
    }
