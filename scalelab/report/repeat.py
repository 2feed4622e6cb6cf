"""Section of a page: how the fit is repeated."""

import shlex

from scalelab import __version__
from scalelab.laws import Laws
from scalelab.report.section import Section, Study


def repeat(study: Study) -> Section:
    """The command, what it drew, and where the numbers are."""
    return Section(
        title="To repeat it",
        commands=(study.command,),
        sentences=(
            f"Seed {study.laws.seed}, {study.laws.draws:,} draws, scalelab {__version__}; the same table gives the same"
            " numbers. Beside this page: laws.json (read by scalelab), optima.csv, exponents.csv, joint.csv, runs.csv,"
            " figures as SVG and PNG.",
        ),
    )


def fit_command(laws: Laws) -> str:
    """What makes these laws again, told from their sources, seed and draws."""
    return shlex.join(["scalelab", "fit", *laws.sources, "--seed", str(laws.seed), "--draws", str(laws.draws)])
