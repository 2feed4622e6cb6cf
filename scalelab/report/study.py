"""A study's folder as one page, in the order in which people ask: what, does it hold, what to use, how to repeat it."""

import shlex
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from scalelab import __version__, plots
from scalelab.report.asked import RECIPE, asked, ran, stated
from scalelab.report.checked import checks
from scalelab.report.checklist import checklist
from scalelab.report.found import CheckFile, Found, found_in
from scalelab.report.measured import NO_LEARNING_RATES, front, losses, optima
from scalelab.report.moved import BATCH, optimum, settings
from scalelab.report.optimal import compute_optimal
from scalelab.report.page import write_page
from scalelab.report.pictures import illustrated
from scalelab.report.proof import proof
from scalelab.report.recipes import next_runs, recipe
from scalelab.report.section import Section, Study
from scalelab.report.summary import summary
from scalelab.report.tried import search
from scalelab.report.trusted import conventions, held_out, published, sensitivity, warnings

BEFORE: tuple[Callable[[Found], Section], ...] = (asked, ran, checks)
OF_LAWS: tuple[tuple[str, Callable[[Study], Section], str], ...] = (
    ("Warnings", warnings, ""),
    ("Best learning rates, scale by scale", optima, NO_LEARNING_RATES),
    ("How the best learning rate moves", optimum, NO_LEARNING_RATES),
    ("Batch and weight decay", settings, BATCH),
    ("Loss laws", losses, ""),
    ("Best size for a budget", compute_optimal, ""),
    ("Loss against compute", front, ""),
    ("The largest scale, left out", held_out, ""),
    ("What the projection rests on", sensitivity, ""),
    ("Published laws on these runs", published, ""),
)
AFTER: tuple[Callable[[Found], Section], ...] = (search, recipe, next_runs, proof)
LAST: tuple[Callable[[Study], Section], ...] = (conventions, checklist)


def write_html(folder: Path, title: str, *, out: Path | None = None, console: Console | None = None) -> Path:
    """Gather a study into one HTML file, figures inside.

    Args:
        folder: a study's: runs, or what the commands wrote from them, or both.
        title: headline of the page.
        out: the file to write; left out, report.html in the folder.
        console: where to say that laws are fitted first.

    Raises:
        Refused: where nothing of it is there, or something is corrupt.
    """
    found = found_in(folder, console)
    sections = [summary(found), *(section(found) for section in BEFORE)]
    if found.study is not None:
        own = found.study
        # Without its runs the laws have their tables, and of figures nothing that shows runs.
        drawn = [] if own.runs.empty else plots.drawings(own.laws, own.runs, linked=True)
        sections += [illustrated(section(own), drawn) for _, section, _ in OF_LAWS]
    else:
        sections += [Section(title=name, absent=f"no laws: {found.unfitted}") for name, _, absent in OF_LAWS if absent]
    sections += [section(found) for section in AFTER]
    if found.study is not None:
        sections += [section(found.study) for section in LAST]
    sections.append(_repeat(found))
    path = folder / "report.html" if out is None else out
    write_page(path, sections, title=title, subtitle=f"Study in {folder}")
    return path


def _repeat(found: Found) -> Section:
    """Every command of the study, in its order, as far as the folder tells."""
    folder = found.folder
    launched = [(each, stated(each, found.recipe)) for each in found.launches]
    commands = [_check(each, folder) for each in found.checks if each.kind == "check"]
    commands += [_train(words) for _, words in launched if RECIPE not in words]
    if found.study is not None:
        commands.append(f"{found.study.command} {shlex.join(['-o', str(folder / 'laws')])}")
    said = []
    if (own := found.recipe) is not None and own.origin == "sweep":
        target = [f"{name}={own.target[name]}" for name in ("width", "depth", "tokens") if name in own.target]
        asked_for = [word for each in target for word in ("--target", each)]
        laws = str(folder / "laws" / "laws.json")
        written = ["-o", str(folder / "recipe.yaml")]
        words = ["--laws", laws, "-p", own.parametrization, *asked_for, *written]
        commands.append(shlex.join(["scalelab", "recommend", *words]))
    targets = [(each, words) for each, words in launched if RECIPE in words]
    commands += [_train(words) for _, words in targets]
    if found.confirmation is not None and targets:
        sources = [] if found.study is None else [f"--proxies={source}" for source in found.study.laws.sources]
        runs = [str(each.folder) for each, _ in targets]
        commands.append(
            shlex.join(["scalelab", "confirm", str(folder / "recipe.yaml"), *runs, *sources, "-o", str(folder)])
        )
    commands.append(shlex.join(["scalelab", "report", str(folder)]))
    if found.study is not None:
        laws_of = found.study.laws
        said.append(f"The fit: seed {laws_of.seed}, {laws_of.draws:,} draws; the same runs give the same numbers.")
    said.append(f"This page was written by scalelab {__version__}.")
    return Section(title="To repeat it", sentences=tuple(said), commands=tuple(commands))


def _check(check: CheckFile, folder: Path) -> str:
    """A coordinate check as it is run again, as far as its file tells."""
    plain = check.plain
    sizes = [f"--{plain['axis']}s", ",".join(map(str, plain["values"])), "--seeds", str(len(plain["activation"][0]))]
    asked_for = [f"parametrization={plain['parametrization']}", f"optimizer={plain.get('optimizer', 'adamw')}"]
    return shlex.join(["scalelab", "check", *asked_for, *sizes, "-o", str(folder / "check")])


def _train(words: list[str]) -> str:
    """A launch as it was typed."""
    given = [part for word in words for part in (word.split(" ") if word == RECIPE else [word])]
    return shlex.join(["scalelab", "train", "-m", *given])
