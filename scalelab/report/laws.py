"""Laws for people: tables, figures, and laws.html, which holds all of it in one file."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from scalelab import plots
from scalelab.files import write_atomically
from scalelab.laws import Laws, tables
from scalelab.laws.report_card import Item, report_card
from scalelab.report.files import embedded, save
from scalelab.report.measured import exponents, losses, optima
from scalelab.report.optimal import compute_optimal
from scalelab.report.page import write_page
from scalelab.report.section import Picture, Section, Study
from scalelab.report.trusted import conventions, held_out, published, sensitivity, warnings
from scalelab.report.verdict import verdict

SECTIONS: tuple[Callable[[Study], Section], ...] = (
    verdict, warnings, conventions, optima, exponents, held_out, losses, compute_optimal, sensitivity,
    published,
)  # fmt: skip


def write_laws(
    laws: Laws, runs: pd.DataFrame, folder: Path, *, figures: bool, command: str = "", title: str = "Scaling laws"
) -> None:
    """optima.csv, exponents.csv, joint.csv and runs.csv beside laws.json, the figures, and laws.html.

    Args:
        laws: the study.
        runs: the table it was made from.
        folder: where to write.
        figures: draw them too, as NAME.svg and NAME.png and inside the page.
        command: what made the laws, for whoever wants to repeat it; left out, told from sources, seed and draws.
        title: of the page.
    """
    for name, table in {**tables(laws), "joint": _joint(laws), "runs": runs}.items():
        write_atomically(folder / f"{name}.csv", table.to_csv(index=False))
    drawn = plots.drawings(laws, runs) if figures else []
    for drawing in drawn:
        save(drawing.figure, folder, drawing.name)
    study = Study(laws=laws, runs=runs, command=command or _command(laws))
    found = [section(study) for section in SECTIONS]
    write_page(
        folder / "laws.html", "laws.html.jinja", title=title, study=study, card=_by_section(report_card(laws, runs)),
        sections=[(section, _pictures(section, drawn, folder)) for section in found if _says(section)],
    )  # fmt: skip


def _by_section(items: tuple[Item, ...]) -> dict[str, list[Item]]:
    return {name: [item for item in items if item.section == name] for name in dict.fromkeys(i.section for i in items)}


def _says(section: Section) -> bool:
    return bool(section.sentences or section.tables or section.warnings)


def _pictures(section: Section, drawn: list[plots.Drawing], folder: Path) -> list[Picture]:
    """The section's figures; one of several groups has the number of its group behind its name."""
    found = []
    for name in section.figures:
        for drawing in drawn:
            stem, _, number = drawing.name.rpartition("_")
            if drawing.name == name or (stem == name and number.isdigit()):
                png = embedded(folder / f"{drawing.name}.png")
                found.append(Picture(title=drawing.title, caption=drawing.caption, png=png or ""))
    return found


def _command(laws: Laws) -> str:
    return shlex.join(["scalelab", "fit", *laws.sources, "--seed", str(laws.seed), "--draws", str(laws.draws)])


def _joint(laws: Laws) -> pd.DataFrame:
    """Every parameter of the joint laws, a row each."""
    return pd.DataFrame(
        [
            {**group.key, "parameter": name, "value": e.value, "low": e.low, "high": e.high, "sd": e.sd,
             "prior_mean": group.joint.priors[name][0], "prior_sd": group.joint.priors[name][1]}
            for group in laws.groups if group.joint is not None for name, e in group.joint.estimates.items()
        ]
    )  # fmt: skip
