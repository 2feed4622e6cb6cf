"""What people see of a search: counts, spending, the best so far and its trend, the front, importances."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from scalelab.console import grid, number, say
from scalelab.readers.optuna_trials import WORK

if TYPE_CHECKING:
    from optuna import Study

    from scalelab.search_views import SearchView, Tried

ROWS = 20  # of a front


def status(found: "SearchView", weights: Mapping[str, float] | None, *, enough: int, console: Console) -> None:
    """A search as it stands; `weights` are the importances of its parameters, None with fewer than `enough` trials."""
    warm = sum(each.warm for each in found.tried)
    own = len(found.tried) - warm
    began = f", and {warm} it began with" if warm else ""
    say(console, f"Search {found.name}, minimising {', '.join(found.objectives)}: {own} trials{began}", "bold")
    for what in ("outcome", "sampler", "phase"):
        if counts := found.counts(what):
            say(console, f"{what}s: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    if found.cost is not None:
        saved = f", saved by stopping {len(found.pruned)} early: {number(found.saved)}" if found.saved else ""
        say(console, f"spent: {number(found.spent)} {found.cost}{saved}")
    if found.best is None:
        say(console, "no trial has ended well yet", "yellow")
        return
    say(console, f"best: {found.objectives[0]} {number(found.best.loss, '.5g')} with {written(found.best.params)}"
        f" (trial {found.best.number})")  # fmt: skip
    _trend(found, console)
    if found.front and len(found.objectives) > 1:
        _front(found, console)
    if weights is None:
        say(console, f"importances: from {enough} trials that ended well on; here are {len(found.well)}")
    else:
        shares = ", ".join(f"{name} {weight:.0%}" for name, weight in weights.items())
        say(console, f"importances for {found.objectives[0]} (PED-ANOVA): {shares}")


def at_work(study: "Study", living: Collection[str], *, now: float, console: Console) -> None:
    """Who is at work on which trial, since when; `now` in seconds since 1970, `living` the drivers that are seen."""
    running = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "RUNNING"]
    if living:
        say(console, f"at work: {', '.join(sorted(living))}")
    rows = []
    for trial in running:
        work = trial.user_attrs.get(WORK, {})
        owner = work.get("owner")
        who = "waits for anybody" if owner is None else owner if owner in living else f"{owner}, which is gone"
        since = f"{(now - work['since']) / 60:,.1f} min" if "since" in work else "—"
        tickets = ", ".join(sorted(set(work.get("tickets", {}).values()))) or "—"
        rows.append([str(trial.number), written(trial.params), who, since, tickets])
    if rows:
        console.print(grid("Running", ["trial", "setting", "driver", "for", "ticket"], rows))


def _trend(found: "SearchView", console: Console) -> None:
    columns = ["trials ended", f"best {found.objectives[0]}", "trial", *([f"spent {found.cost}"] if found.cost else [])]
    rows = [
        [str(step.trials), *(("—", "—") if step.best is None else _named(step.best)),
         *([number(step.spent)] if found.cost else [])]
        for step in found.trend
    ]  # fmt: skip
    console.print(grid("Best so far", columns, rows))


def _named(best: "Tried") -> tuple[str, str]:
    return number(best.loss, ".5g"), str(best.number)


def _front(found: "SearchView", console: Console) -> None:
    shown = found.front[-ROWS:]
    names = list(dict.fromkeys(name for each in shown for name in each.params))
    rows = [
        [number(each.cost), number(each.loss, ".5g"), *(_value(each.params.get(name, "")) for name in names),
         str(each.number), each.phase or "—"]
        for each in shown
    ]  # fmt: skip
    more = f", the {ROWS} dearest of {len(found.front)}" if len(found.front) > ROWS else ""
    heading = f"Pareto front{more}: no cheaper trial has a smaller loss"
    console.print(grid(heading, [str(found.cost), found.objectives[0], *names, "trial", "phase"], rows))


def written(params: Mapping[str, Any]) -> str:
    """Parameters as one would type them.

    >>> written({"lr": 0.001234567, "width": 64})
    'lr=0.001235 width=64'
    """
    return " ".join(f"{name}={_value(value)}" for name, value in params.items())


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
