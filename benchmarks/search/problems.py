"""The problems by name, each made for a seed: all but `family` are the same surface for every seed."""

import os
from collections.abc import Callable
from pathlib import Path

from search import bent, family, hoffmann, steplaw, trap
from search.problem import Problem
from search.unavailable import Unavailable

DATA = Path(os.environ.get("SCALELAB_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def steplaw4() -> Problem:
    path = DATA / "steplaw" / "dense_lr_bs_loss.csv"
    if not path.exists():
        raise Unavailable(f"steplaw4 needs {path}: set SCALELAB_DATA to the folder of the published sweeps")
    return steplaw.problem(path)


PROBLEMS: dict[str, Callable[[int], Problem]] = {
    "synth5": lambda seed: hoffmann.problem(),
    "steplaw4": lambda seed: steplaw4(),
    "bent": lambda seed: bent.problem(),
    "trap": lambda seed: trap.problem(),
    "family": family.problem,
}
