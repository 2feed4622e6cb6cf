"""What a search found: the winner, the front, and what the winner's loss is on seeds that it was not chosen on."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from optuna.trial import FrozenTrial

from scalelab.files import write_atomically
from scalelab.plan import Plan
from scalelab.search.history import History
from scalelab.search.problem import Problem
from scalelab.search_views import WARM
from scalelab.trials import TRIAL_FILE, Outcome

RESULT_FILE = "search.json"
RESULT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Found:
    """A setting with its means over the tuning seeds, and the fingerprints of its runs where it has some."""

    trial: int
    params: Mapping[str, Any]
    values: Mapping[str, float]
    runs: tuple[str, ...]
    warm_start: str | None


@dataclass(frozen=True, kw_only=True)
class Tested:
    """The winner on unseen seeds (arXiv:2306.01324).

    The interval is Student's, 95 %, over seeds; None with fewer than two. `optimism_nats` is how much lower the loss
    was that it was chosen by.
    """

    seeds: tuple[int, ...]
    losses_nats: tuple[float, ...]
    diverged: int
    crashed: int
    mean_nats: float | None
    low_nats: float | None
    high_nats: float | None
    optimism_nats: float | None


@dataclass(frozen=True, kw_only=True)
class Result:
    """`front` are the settings that no other beats in all objectives, by loss: of one objective, the winner alone."""

    study: str
    sampler: str
    objectives: tuple[str, ...]
    space: tuple[str, ...]
    tuning_seeds: tuple[int, ...]
    outcomes: Mapping[str, int]
    spent_flops: float
    saved_flops: float  # by trials that were stopped, on their way to the end
    winner: Found | None
    front: tuple[Found, ...]
    tested: Tested | None
    recommended: Mapping[str, Any] | None  # by the sampler, where it does: `params` and what it says of them

    def write(self, folder: Path) -> None:
        """Put it into the study's folder, whole."""
        write_atomically(folder / RESULT_FILE, json.dumps(asdict(self) | {"version": RESULT_VERSION}, indent=1) + "\n")


def kept_recommendation(folder: Path) -> Mapping[str, Any] | None:
    """What the sampler recommended when the search was last launched."""
    file = folder / RESULT_FILE
    found: Mapping[str, Any] | None = json.loads(file.read_text())["recommended"] if file.exists() else None
    return found


def winner(past: History) -> FrozenTrial | None:
    """The setting with the lowest loss: of a front, the one that costs most."""
    return past.best_first[0] if past.best_first else None


def result_of(problem: Problem, past: History, recommended: Mapping[str, Any] | None) -> Result:
    """What a search has found so far, from its study and its run folders, and by its sampler."""
    best = winner(past)
    diverged = sum(trial.user_attrs["outcome"] == Outcome.DIVERGED for trial in past.ended)
    return Result(
        study=problem.name,
        sampler=problem.settings.sampler_name,
        objectives=problem.settings.objectives,
        space=tuple(map(str, problem.space.parameters)),
        tuning_seeds=problem.tuning_seeds,
        outcomes={"OK": len(past.ended) - diverged, "DIVERGED": diverged, "PRUNED": len(past.pruned),
                  "FAILED": len(past.crashed), "WARM": len(past.warm)},
        spent_flops=past.spent_flops,
        saved_flops=past.saved_flops,
        winner=None if best is None else _found(problem, best),
        front=tuple(_found(problem, trial) for trial in past.front),
        tested=None if best is None else tested(problem, best),
        recommended=recommended,
    )  # fmt: skip


def _found(problem: Problem, trial: FrozenTrial) -> Found:
    return Found(
        trial=trial.number,
        params=dict(trial.params),
        values=dict(zip(problem.settings.objectives, trial.values, strict=True)),
        runs=tuple(trial.user_attrs["fingerprint"].split()),
        warm_start=trial.user_attrs.get(WARM),
    )


def test_plan(problem: Problem, past: History) -> Plan:
    """The winner's runs on the testing seeds."""
    best = winner(past)
    if best is None or not problem.settings.testing_seeds:
        return Plan(runs=())
    return Plan(runs=problem.runs(best.params, problem.settings.testing_seeds))


def tested(problem: Problem, best: FrozenTrial) -> Tested | None:
    """The winner's loss on the testing seeds; None where there are none, or not all have been tried."""
    if not (seeds := problem.settings.testing_seeds):
        return None
    runs = problem.runs(best.params, seeds)
    if not all((run.folder.path / TRIAL_FILE).exists() for run in runs):
        return None
    trials = [run.folder.read() for run in runs]
    losses = [trial.loss_nats for trial in trials if trial.loss_nats is not None]
    mean = fmean(losses) if losses else None
    half = _half_interval(losses)
    return Tested(
        seeds=seeds,
        losses_nats=tuple(losses),
        diverged=sum(trial.outcome is Outcome.DIVERGED for trial in trials),
        crashed=sum(trial.outcome is Outcome.FAILED for trial in trials),
        mean_nats=mean,
        low_nats=None if mean is None or half is None else mean - half,
        high_nats=None if mean is None or half is None else mean + half,
        optimism_nats=None if mean is None else mean - best.values[0],
    )


def _half_interval(losses: list[float]) -> float | None:
    if len(losses) < 2:
        return None
    from scipy import stats

    return float(stats.t.ppf(0.975, len(losses) - 1)) * stdev(losses) / math.sqrt(len(losses))
