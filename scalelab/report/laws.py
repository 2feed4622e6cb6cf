"""Laws for people: tables, figures, and laws.html, which holds all of it in one file."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from scalelab import plots
from scalelab.files import write_atomically
from scalelab.laws import Laws, tables
from scalelab.report.checklist import checklist
from scalelab.report.files import save
from scalelab.report.measured import exponents, front, losses, optima
from scalelab.report.optimal import compute_optimal
from scalelab.report.page import write_page
from scalelab.report.pictures import illustrated
from scalelab.report.repeat import fit_command, repeat
from scalelab.report.section import Section, Study
from scalelab.report.trusted import conventions, held_out, published, sensitivity, warnings
from scalelab.report.verdict import verdict

SECTIONS: tuple[Callable[[Study], Section], ...] = (
    verdict, warnings, conventions, optima, exponents, held_out, losses, compute_optimal, sensitivity,
    published, front, checklist, repeat,
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
    study = Study(laws=laws, runs=runs, command=command or fit_command(laws))
    write_page(
        folder / "laws.html", [illustrated(section(study), drawn) for section in SECTIONS], title=title,
        subtitle=f"Laws of {', '.join(laws.sources)}" if laws.sources else "",
    )  # fmt: skip


def _joint(laws: Laws) -> pd.DataFrame:
    """Every parameter of the joint laws, a row each."""
    return pd.DataFrame(
        [
            {**group.key, "parameter": name, "value": e.value, "low": e.low, "high": e.high, "sd": e.sd,
             "prior_mean": group.joint.priors[name][0], "prior_sd": group.joint.priors[name][1]}
            for group in laws.groups if group.joint is not None for name, e in group.joint.estimates.items()
        ]
    )  # fmt: skip
