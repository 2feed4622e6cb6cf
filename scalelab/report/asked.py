"""Sections of a study's page on what was asked and what it took: launches, runs, cost."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pandas as pd

from scalelab.console import duration, energy, number, prefixed
from scalelab.laws.columns import NAMES, UNITS
from scalelab.laws.draw.style import label
from scalelab.plots.linked import RUN, anchors
from scalelab.recipe import Recipe
from scalelab.report.found import Found
from scalelab.report.launches import Launch
from scalelab.report.section import Section, Table, table
from scalelab.status import State

RECIPE = "--recipe recipe.yaml"
MOST_RUNS = 10_000  # rows of a table; the rest are in the run folders
NUMBERS = {"loss_nats": ".4f", "lr": ".5g", "cost_flops": ".3g", "weight_decay": ".4g"}


def asked(found: Found) -> Section:
    """The question, the study's file, what was stated and what was swept."""
    said = [f"{each.study_file}: {each.comment}" for each in found.launches if each.comment]
    rows = [
        (each.folder.name, each.study_file or "—", "\n".join(stated(each, found.recipe)),
         "\n".join(f"{name} = {values}" for name, values in each.swept.items()),
         f"{each.launched:%Y-%m-%d %H:%M} UTC")
        for each in found.launches
    ]  # fmt: skip
    head = ("study", "file", "stated", "swept", "launched last")
    return Section(
        title="What was asked", sentences=tuple(said), tables=table(head, rows, code=("file", "stated", "swept")),
        absent="runs that were launched elsewhere say nothing of it: `scalelab train -m +sweep=NAME` keeps it",
    )  # fmt: skip


def stated(launch: Launch, recipe: Recipe | None) -> list[str]:
    """What a launch stated on its command line; what it took from the recipe in one word.

    A launch with `--recipe` states all of the recipe's overrides (some of an earlier recipe, where it was written
    again); one that has a few of them by chance, such as the parametrization, stated them itself.
    """
    own = set() if recipe is None else set(recipe.overrides)
    rest = [each for each in launch.overrides if each not in own]
    if len(launch.overrides) - len(rest) <= len(own) / 2:
        return list(launch.overrides)
    return [RECIPE, *rest]


def ran(found: Found) -> Section:
    """Runs by outcome, what they cost, when and with what; every run behind the laws, folded away."""
    rows = []
    for each in found.studies:
        counts = [f"{each.counts[state]:,}" if each.counts.get(state) else "" for state in State]
        rows.append(
            (each.folder.name, f"{each.runs:,}", *counts, prefixed(each.tokens), number(each.flops, ".3g"),
             duration(each.seconds), "—" if each.energy_joules is None else energy(each.energy_joules),
             "—" if each.flops_per_second is None else f"{prefixed(each.flops_per_second)}FLOP/s")
        )  # fmt: skip
    head = ("study", "runs", *(state.value.lower() if state is not State.OK else "OK" for state in State), "tokens",
            "training FLOPs", "worker time", "energy", "speed of a worker")  # fmt: skip
    said = []
    if found.study is not None and not found.studies and not found.study.runs.empty:
        where = ", ".join(found.study.laws.sources) or "a table"
        said.append(f"{len(found.study.runs):,} runs, read from {where}; what they took is not known here.")
    if (made := found.origins) is not None:
        if made.first:
            said.append(f"The first run started at {_when(made.first)}, the last at {_when(made.last)}.")
        versions = {what: counts for what, counts in made.versions.items() if counts and what != "host"}
        if versions:
            said.append(f"With {'; '.join(f'{what} {_named(counts)}' for what, counts in versions.items())}"
                        f"{_hosts(made.versions.get('host', {}))}.")  # fmt: skip
        if any(len(counts) > 1 for what, counts in versions.items() if what in ("scalelab", "torch")):
            said.append("More than one version took part: their numbers may differ by rounding.")
    return Section(
        title="Runs and cost", sentences=tuple(said), tables=(*table(head, rows), *_runs(found)),
        absent="the runs are elsewhere; give the folder in which they are",
    )  # fmt: skip


def _when(moment: str) -> str:
    """An ISO time as people read it; as it is where it is none."""
    try:
        return f"{datetime.fromisoformat(moment).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return moment


def _named(counts: Mapping[str, int]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{name} ({count:,} runs)" for name, count in counts.items())


def _hosts(hosts: Mapping[str, int]) -> str:
    return "" if not hosts else ", on one machine" if len(hosts) == 1 else f", on {len(hosts)} machines"


def _runs(found: Found) -> tuple[Table, ...]:
    """The runs behind the laws; columns that say the same everywhere are said once, in the caption."""
    if found.study is None or found.study.runs.empty:
        return ()
    runs = found.study.runs
    shown = runs.iloc[:MOST_RUNS]
    names = [name for name in ("run", *NAMES, *UNITS, "seed", "outcome") if name in runs]
    same = [name for name in names if name not in ("run", "loss_nats", "outcome") and runs[name].nunique() == 1]
    varied = [name for name in names if name not in same]
    everywhere = ", ".join(f"{label(name)} {_cell(name, runs[name].iloc[0])}" for name in same)
    caption = (
        "Every run behind the laws" if len(shown) == len(runs) else f"The first {len(shown):,} of {len(runs):,} runs"
    )
    columns = [[_cell(name, value) for value in shown[name]] for name in varied]
    return table(
        tuple("run" if name == "run" else label(name) for name in varied), list(zip(*columns, strict=True)),
        f"{caption}{f'; all with {everywhere}' if everywhere else ''}", anchors=anchors(RUN, range(len(shown))),
        code=("run",), folded=True,
    )  # fmt: skip


def _cell(name: str, value: object) -> str:
    if name == "run":
        return str(value).replace("\\", "/").rpartition("/")[2]
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float) and value.is_integer() and 1 <= value < 1e15 and name not in NUMBERS:
        return f"{value:,.0f}"
    if isinstance(value, float):
        return number(value, NUMBERS.get(name, ".4g"))
    return f"{value:,}" if isinstance(value, int) and name != "seed" else str(value)
