"""What a search is about to do, and what it did, as people see it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from scalelab.console import grid, number, say
from scalelab.search.asking import trials_left
from scalelab.search.checked import check_pruner, notes
from scalelab.search.history import History, history
from scalelab.search.problem import Problem
from scalelab.search.result import RESULT_FILE, Found, Result, kept_recommendation, result_of, test_plan
from scalelab.search.rule import Rule
from scalelab.search.sampler import grid_size, sampler_of
from scalelab.search.study import existing, rule_in
from scalelab.search.warm_start import Warm, warm_start
from scalelab.spec import RunSpec

ROWS = 10  # of a front that are shown


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """A search before it is launched: what is there, what is to do, what a run of it costs at least and at most."""

    problem: Problem
    past: History
    warm: Warm
    cheapest: RunSpec
    dearest: RunSpec
    left: int
    tests_left: int
    rule: Rule | None
    notes: tuple[str, ...]


def outlook(problem: Problem) -> Outlook:
    """Look at a search without writing anything.

    Raises:
        Refused: on whatever would keep it from being run.
    """
    cheapest, dearest = problem.check()
    sampler = sampler_of(problem.settings, problem.space, cost=problem.cost_flops)
    check_pruner(problem, sampler)
    study = existing(problem)
    rule = rule_in(problem, study)
    past = history(study, rule)
    left = trials_left(problem, past)
    tests = test_plan(problem, past).missing if left <= 0 else ()
    return Outlook(
        problem=problem, past=past, warm=warm_start(problem, study), cheapest=cheapest, dearest=dearest,
        left=left, tests_left=len(tests), rule=rule,
        notes=() if rule is None else tuple(notes(problem, rule, sampler)),
    )  # fmt: skip


def as_plain(found: Outlook) -> dict[str, Any]:
    """The same as JSON types; the two specs by what a run costs."""
    settings = found.problem.settings
    return {
        "study": found.problem.name, "sampler": settings.sampler_name, "objectives": list(settings.objectives),
        "space": list(map(str, found.problem.space.parameters)), "budget_flops": settings.budget_flops,
        "run_flops": [found.cheapest.cost_flops, found.dearest.cost_flops], "trials_told": found.past.told,
        "trials_left": found.left, "tests_left": found.tests_left, "notes": list(found.notes),
    }  # fmt: skip


def result_as_plain(problem: Problem) -> dict[str, Any]:
    """What a search has found, as JSON types."""
    study = existing(problem)
    past = history(study, rule_in(problem, study))
    return asdict(result_of(problem, past, kept_recommendation(problem.folder)))


def show_outlook(found: Outlook, console: Console) -> None:
    """The space, the sampler, the cost, how far it is."""
    problem, settings = found.problem, found.problem.settings
    say(console, f"search {problem.name}: {settings.sampler_name} minimises {', '.join(settings.objectives)} over")
    for parameter in problem.space.parameters:
        say(console, f"  {parameter}")
    seeds = len(problem.tuning_seeds)
    cost = [f"{spec.cost_flops:.2e}" for spec in (found.cheapest, found.dearest)]
    most = found.left * seeds * found.dearest.cost_flops
    say(
        console,
        f"a run costs {cost[0]} to {cost[1]} training FLOPs, all that is left at most"
        f" {min(most, max(0.0, settings.budget_flops - found.past.spent_flops)):.2e}"
        + ("" if math.isinf(settings.budget_flops) else f" (budget_flops {settings.budget_flops:.3g})"),
    )
    if seeds > 1 or settings.testing_seeds:
        say(console, f"{seeds} seeds a trial; the winner on {len(settings.testing_seeds)} unseen ones")
    size = grid_size(settings, problem.space)
    cap = "" if size >= settings.n_trials else f", the whole grid, of n_trials {settings.n_trials}"
    say(
        console,
        f"plan: {found.past.told + found.left - found.past.due} trials{cap}, {found.past.told} told,"
        f" {len(found.past.pending)} of them to take up again, {found.left} to do, {settings.n_jobs} at a time"
        + (f"; {found.past.due} told ones go on to {found.past.horizon} tokens" if found.past.due else ""),
    )
    if found.rule is not None:
        _show_rule(found.rule, found.notes, console)
    if settings.warm_start:
        say(console, f"warm start: {len(found.past.warm)} told, {len(found.warm.trials)} to be told")
        for why, count in found.warm.left_out.items():
            say(console, f"  {count} left out: {why}")


def _show_rule(rule: Rule, notes: tuple[str, ...], console: Console) -> None:
    at = f" of {rule.horizon}, after {', '.join(map(str, rule.rungs))} tokens" if rule.asks_runs else ", between seeds"
    say(console, f"pruner {rule.name} may stop them{at}")
    for text in notes:
        say(console, f"note: {text}", "yellow")


def show_result(problem: Problem, console: Console) -> bool:
    """The winner or the front as a table, and where everything is; whether the search went to its end."""
    study = existing(problem)
    past = history(study, rule_in(problem, study))
    found = result_of(problem, past, kept_recommendation(problem.folder))
    waits_for_budget = bool(past.pending) and not math.isinf(problem.settings.budget_flops)
    if found.winner is None:
        say(console, f"no trial of {problem.name} ended well: {_counts(found.outcomes)}", "yellow")
    else:
        _show_found(found, found.winner, console)
    saved = f", {found.saved_flops:.2e} saved by stopping {found.outcomes['PRUNED']}" if found.saved_flops else ""
    spent = f"{found.spent_flops:.2e} FLOPs{saved}"
    say(console, f"{_counts(found.outcomes)}, {spent}; result: {problem.folder / RESULT_FILE}")
    say(console, f"study: {problem.storage_shown}; laws from its runs: scalelab fit {problem.folder}")
    return trials_left(problem, past) <= 0 or waits_for_budget


def _show_found(found: Result, winner: Found, console: Console) -> None:
    several = len(found.objectives) > 1
    keys = list(winner.params)
    console.print(
        grid(
            "Front" if several else "Best setting", ("trial", *keys, *found.objectives),
            [_row(one, keys, found.objectives) for one in found.front[:ROWS]],
        )
    )  # fmt: skip
    if len(found.front) > ROWS:
        say(console, f"… and {len(found.front) - ROWS} more in {RESULT_FILE}")
    if found.recommended is not None:
        _show_recommendation(found.sampler, found.recommended, console)
    if test := found.tested:
        interval = "" if test.low_nats is None else f" [{number(test.low_nats)}, {number(test.high_nats)}]"
        others = "".join(f", {n} {what}" for n, what in ((test.diverged, "diverged"), (test.crashed, "crashed")) if n)
        say(
            console,
            f"the winner on {len(test.seeds)} unseen seeds: {number(test.mean_nats)} nats{interval}{others}; tuned on"
            f" {number(winner.values['loss_nats'])}, optimism {number(test.optimism_nats, '+.4f')}",
        )


def _show_recommendation(sampler: str, found: Mapping[str, Any], console: Console) -> None:
    setting = " ".join(f"{key}={_cell(value)}" for key, value in found["params"].items())
    expected = ""
    if "loss" in found:
        expected = f": loss {number(found['loss'])} [{number(found['low'])}, {number(found['high'])}]"
    if "expected_regret" in found:
        expected += f", expected regret {number(found['expected_regret'], '.4f')}"
    say(console, f"{sampler} recommends {setting}{expected}")
    for text in found.get("warnings", ()):
        say(console, f"warning: {text}", "yellow")


def _counts(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in outcomes.items() if count) or "no trial"


def _row(one: Found, keys: list[str], objectives: tuple[str, ...]) -> tuple[str, ...]:
    return (
        f"{one.trial}{'' if one.warm_start is None else ' (warm)'}",
        *(_cell(one.params[key]) for key in keys),
        *(number(one.values[name], ".4f" if name == "loss_nats" else ".4g") for name in objectives),
    )


def _cell(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)
