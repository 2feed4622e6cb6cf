"""What a study's folder holds: launches, runs, checks, laws, a recipe, its confirmation, a search.

Laws that are not there are fitted here, where the folder holds the runs of one study.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from scalelab import readers
from scalelab.confirm import Confirmation, LrResult
from scalelab.console import say
from scalelab.errors import Refused
from scalelab.laws import Laws, study
from scalelab.laws import read as read_laws
from scalelab.readers.optuna_study import JOURNAL, open_study
from scalelab.recipe import Recipe, read_recipe
from scalelab.report.launches import Launch, launches
from scalelab.report.origins import Origins, origins
from scalelab.report.repeat import fit_command
from scalelab.report.section import Study
from scalelab.search_views import SearchView, view
from scalelab.status import StudyStatus, look
from scalelab.trials import run_folders

LAWS = ("laws/laws.json", "laws.json")
KINDS = ("check", "gradients", "lazy", "stability")  # of checks, as their files' names begin


@dataclass(frozen=True, kw_only=True)
class CheckFile:
    """A check as it was written: its kind, what its JSON says, its figure's PNG (None where there is none)."""

    kind: str
    plain: Mapping[str, Any]
    png: bytes | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """A study's folder, read. `unfitted` says why there are no laws, `fitted` that they were fitted just now."""

    folder: Path
    launches: tuple[Launch, ...]
    studies: tuple[StudyStatus, ...]
    origins: Origins | None
    checks: tuple[CheckFile, ...]
    study: Study | None
    fitted: bool
    unfitted: str
    recipe: Recipe | None
    confirmation: Confirmation | None
    search: SearchView | None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not any((self.studies, self.checks, self.study, self.recipe, self.confirmation, self.search))


def found_in(folder: Path, console: Console | None = None) -> Found:
    """Read what is in a study's folder.

    Raises:
        Refused: where something in it is corrupt, or there is nothing to report.
    """
    parents = [run.path.parent for run in run_folders(folder)] if folder.is_dir() else []
    laws, fitted, unfitted = _laws(folder, sorted(set(parents)), len(parents), console)
    found = Found(
        folder=folder,
        launches=launches(folder),
        studies=look([folder]) if parents else (),
        origins=origins(folder) if parents else None,
        checks=_checks(folder),
        study=laws,
        fitted=fitted,
        unfitted=unfitted,
        recipe=read_recipe(folder / "recipe.yaml") if (folder / "recipe.yaml").exists() else None,
        confirmation=_confirmation(folder / "confirmation.json"),
        search=view(open_study(folder)) if (folder / JOURNAL).exists() else None,
    )
    if found.empty:
        raise Refused(
            f"nothing to report in {folder}: looked for runs, check*/, laws/laws.json, recipe.yaml, confirmation.json,"
            f" {JOURNAL}"
        )
    return found


def _laws(folder: Path, studies: list[Path], n_runs: int, console: Console | None) -> tuple[Study | None, bool, str]:
    """The laws with their runs, whether they were fitted here, or why there are none."""
    for name in LAWS:
        if (folder / name).exists():
            laws = read_laws(folder / name)
            return Study(laws=laws, runs=_runs_of(laws, folder / name), command=fit_command(laws)), False, ""
    if not studies:
        return None, False, f"there are no runs in {folder}, and no laws/laws.json"
    if len(studies) > 1:
        return None, False, (
            f"{folder} holds {len(studies)} studies; say whose runs belong together: scalelab fit"
            f" {studies[0]} -o {folder / 'laws'}"
        )  # fmt: skip
    if console is not None:
        say(console, f"no laws/laws.json in {folder}: fitting its {n_runs:,} runs …", "dim")
    try:
        runs = readers.read([folder])
        laws = study(
            runs.table, theory={name: 0.0 for name in ("width", "depth") if name in runs.table},
            template=runs.template, sources=runs.sources, conventions=runs.conventions,
        )  # fmt: skip
    except Refused as reason:  # of a study without a law there is still something to show
        return None, False, str(reason)
    return Study(laws=laws, runs=runs.table, command=fit_command(laws)), True, ""


def _runs_of(laws: Laws, file: Path) -> pd.DataFrame:
    """The runs behind laws that were read: those beside them, or at their sources; else an empty table."""
    beside = file.with_name("runs.csv")
    if beside.exists():
        return readers.read([beside]).table
    if laws.sources and all(Path(source).exists() for source in laws.sources):
        return readers.read(laws.sources).table
    return pd.DataFrame()


def _checks(folder: Path) -> tuple[CheckFile, ...]:
    found = []
    for file in sorted(folder.glob("check*/*.json")):
        kind = file.name.partition("_")[0]
        if kind not in KINDS:
            continue
        png = file.with_suffix(".png")
        plain = _json(file)
        if not isinstance(plain.get("passed"), bool) or not isinstance(plain.get("parametrization"), str):
            raise Refused(f"{file} is not a check: write it again with `scalelab check -o {file.parent}`")
        found.append(CheckFile(kind=kind, plain=plain, png=png.read_bytes() if png.exists() else None))
    return tuple(found)


def _confirmation(file: Path) -> Confirmation | None:
    if not file.exists():
        return None
    plain, names = _json(file), [field.name for field in fields(Confirmation)]
    if missing := [name for name in names if name not in plain]:
        raise Refused(f"{file} lacks {', '.join(sorted(missing))}: run `scalelab confirm` again")
    try:
        results = tuple(LrResult(**result) for result in plain["results"])
    except TypeError as error:
        raise Refused(f"{file} is damaged ({error}): run `scalelab confirm` again") from None
    return Confirmation(**{**{name: plain[name] for name in names}, "results": results})


def _json(file: Path) -> dict[str, Any]:
    try:
        plain = json.loads(file.read_text())
    except ValueError as error:
        raise Refused(f"{file} is corrupt: {error}") from None
    if not isinstance(plain, dict):
        raise Refused(f"{file} is corrupt: it holds no object")
    return plain
