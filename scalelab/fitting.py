"""`fit` as the command line runs it: read, fit, write, say; with a target also what is best there and what to run."""

import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from scalelab import readers, report, show_laws
from scalelab.console import interval, say
from scalelab.errors import Refused
from scalelab.files import write_atomically
from scalelab.laws import GroupLaws, Laws, study, write
from scalelab.laws.columns import SCALES
from scalelab.laws.design import as_csv, as_studies, next_runs
from scalelab.laws.store import as_plain
from scalelab.laws.validate.forms import averaged
from scalelab.overrides import overrides_of
from scalelab.plots import titles
from scalelab.readers.numbers import number
from scalelab.recommend.accepted import swept_apart
from scalelab.secrets import scrubbed
from scalelab.spec import from_plain
from scalelab.target import named, target_spec
from scalelab.trackers.artifacts import accepted_place, keep

TARGET = (*SCALES, "batch_tokens")
WRITTEN = (".json", ".html", ".csv", ".svg", ".png")
STUDY_KEYS = ("width", "depth", "tokens")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked of `fit`: `laws` and `compare` None are the usual ones; `target` empty is none."""

    runs: Sequence[str]
    out: Path
    columns: Sequence[str]
    laws: Sequence[str] | None
    compare: Sequence[str] | None
    target: Mapping[str, float]
    propose: bool
    budget_flops: float | None
    seed: int
    draws: int
    plots: bool
    tracker: str | None = None


def parse_scale(given: Sequence[str]) -> dict[str, float]:
    """`["params_non_embedding=7B", "tokens=140B"]` as numbers; `Refused` on an unknown scale or no number > 0."""
    found: dict[str, float] = {}
    for name, text in named(given, TARGET):
        value = number(text)
        if value is None or not (math.isfinite(value) and value > 0):
            raise Refused(f"--target {name}={text}: accepted is a number > 0, such as 7e9 or 7B")
        found[name] = value
    return found


def execute(asked: Request, console: Console) -> dict[str, Any]:
    """Read, fit, write laws.json with its tables, figures and page, and print the summary.

    Returns:
        The same as JSON types: `laws` as laws.json has them, `at_target` and `next_runs` a row a group where asked,
        `written` the files.
    """
    place = accepted_place(asked.tracker)
    found = readers.read(asked.runs, columns=readers.parse_columns(asked.columns))
    for ours, theirs in found.guessed.items():
        say(console, f"{ours} ← {theirs}", "dim")
    for note in found.notes:
        say(console, f"note: {note}", "dim")
    scale = {name: value for name, value in asked.target.items() if name != "batch_tokens"}
    laws = study(
        found.table, seed=asked.seed, draws=asked.draws, laws=asked.laws, compare=asked.compare,
        theory={name: 0.0 for name in ("width", "depth") if name in found.table}, target=scale or None,
        template=found.template, sources=found.sources, conventions=found.conventions,
    )  # fmt: skip
    asked.out.mkdir(parents=True, exist_ok=True)
    write(laws, asked.out / "laws.json")
    report.write_laws(
        laws, found.table, asked.out, figures=asked.plots, command=scrubbed(shlex.join(["scalelab", *sys.argv[1:]]))
    )
    show_laws.laws(laws, console)
    at_target, proposed = [], []
    if asked.target:
        for name, group in zip(titles(laws), laws.groups, strict=True):
            at_target.append(_project(name, group, asked, console))
            if asked.propose:
                proposed.append(_propose(name, laws, group, asked, console))
    say(console, f"written: {asked.out}/laws.json, laws.html, its tables as CSV{' and figures' if asked.plots else ''}")
    files = [file for file in sorted(asked.out.iterdir()) if file.suffix in WRITTEN]
    if place is not None:
        say(console, keep(place, "laws", files, sources=found.sources, folder=asked.out))
    return {
        "laws": as_plain(laws), "at_target": at_target, "next_runs": proposed, "written": [str(file) for file in files]
    }  # fmt: skip


def _project(name: str, group: GroupLaws, asked: Request, console: Console) -> dict[str, Any]:
    """What the laws say at the target, also as JSON types."""
    said: dict[str, Any] = {"group": name, "target": dict(asked.target), "settings": {}, "loss_nats": None}
    at = ", ".join(f"{key} {value:.4g}" for key, value in asked.target.items())
    say(console, f"{name} at {at}", "bold")
    if group.joint is not None:
        scale = {
            key: value for key, value in asked.target.items() if key in group.joint.domain and key != "batch_tokens"
        }
        setting = group.joint.predict(batch_tokens=asked.target.get("batch_tokens"), **scale)
        for key, found in setting.values.items():
            far = ", ".join(f"{x} by a factor {10**decades:.3g}" for x, decades in found.outside.items())
            beyond = f" (beyond what was swept: {far})" if far else ""
            say(console, f"  {key} {interval(found.value, found.low, found.high)}{beyond}")
            said["settings"][key] = {"value": found.value, "low": found.low, "high": found.high,
                                     "beyond_decades": dict(found.outside)}  # fmt: skip
        said["expected_excess_percent"] = 100 * setting.expected_excess
        say(console, f"  expected to cost {100 * setting.expected_excess:.2g} % of the loss for not being known better")
    if group.loss_fits:
        known = {key: value for key, value in asked.target.items() if key != "batch_tokens"}
        try:
            loss = averaged(list(group.loss_fits.values()), group.loss_scores, **known)
        except Refused as refusal:
            say(console, f"  loss: {refusal}", "dim")
        else:
            laws = ", ".join(group.loss_fits)
            say(console, f"  loss {interval(loss.value, loss.low, loss.high)} nats, averaged over {laws}")
            said["loss_nats"] = {"value": loss.value, "low": loss.low, "high": loss.high, "laws": list(group.loss_fits)}
    return said


def _propose(name: str, laws: Laws, group: GroupLaws, asked: Request, console: Console) -> dict[str, Any]:
    """The next runs, printed and written: studies of our own proxies, a table for anybody's trainer.

    Returns:
        The group, what was said, and the files.
    """
    scale = {key: value for key, value in asked.target.items() if key != "batch_tokens"}
    found = next_runs(
        scale, joint=group.joint, loss=next(iter(group.loss_fits.values()), None), optima=group.optima,
        batch_tokens=asked.target.get("batch_tokens"), budget_flops=asked.budget_flops,
    )  # fmt: skip
    say(console, found.summary())
    stem = re.sub(r"[^\w.-]+", "_", name).strip("._")  # a table's names may be anything
    write_atomically(asked.out / f"next_{stem}.csv", as_csv(found))
    say(console, f"written: {asked.out}/next_{stem}.csv, a row a run")
    said: dict[str, Any] = {
        "group": name, "summary": found.summary(), "runs": f"{asked.out}/next_{stem}.csv", "studies": []
    }  # fmt: skip
    key = f"{group.key.get('parametrization')}/{group.key.get('optimizer')}"
    if laws.template is None or key not in laws.template:
        return said
    proxy = from_plain(laws.template[key])
    own = swept_apart(group, proxy)  # as the runs were: their own base there
    studies = as_studies(
        found, name=f"next_{stem}",
        stated=lambda s: overrides_of(target_spec(proxy, {k: int(s[k]) for k in STUDY_KEYS if k in s}, own)),
    )  # fmt: skip
    for file, text in studies.items():
        write_atomically(asked.out / "sweep" / f"{file}.yaml", text)
        said["studies"].append(f"{asked.out}/sweep/{file}.yaml")
    say(console, f"run them: scalelab train -m --config-dir {asked.out} +sweep={next(iter(studies), '')}, and so on")
    return said
