"""A replication: a folder of `sweeps/` with a published claim, the study that asks it, its runs and the verdict.

sweeps/NAME/claim.toml    what is claimed, and by whom
sweeps/NAME/proxy*.yaml   Hydra studies for two cores; gpu*.yaml: for a GPU
sweeps/NAME/results.csv   a row a run, by `scalelab collect --csv`; and smaller tables beside it
sweeps/NAME/verdict.json  written by `conclude`, as analysis/NAME.ipynb found it
sweeps/NAME/LOG.md        its head from the verdict, the rest by hand
"""

import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from scalelab import readers
from scalelab.errors import Refused
from scalelab.replications.finding import Verdict
from scalelab.typed import built

SWEEPS = "sweeps"
CLAIM_FILE, RESULTS_FILE, VERDICT_FILE, LOG_FILE = "claim.toml", "results.csv", "verdict.json", "LOG.md"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One sentence of what is claimed, the paper's short title with its authors and year, and its arXiv numbers."""

    claim: str
    paper: str
    arxiv: tuple[str, ...]

    @property
    def source(self) -> str:
        """The paper and where it is."""
        return "; ".join([self.paper, *(f"arXiv:{number}" for number in self.arxiv)])


@dataclass(frozen=True, kw_only=True)
class Replication:
    """A claim and the folder that has its study."""

    folder: Path
    claim: Claim

    @property
    def name(self) -> str:
        return self.folder.name

    def runs(self, file: str = RESULTS_FILE) -> pd.DataFrame:
        """The table of runs: the columns that laws know, checked and in our units, and what else varied beside them.

        Raises:
            Refused: where the file is missing, corrupt, or says what cannot be.
        """
        known = readers.read([self.folder / file]).table
        table = self.frame(file)
        others = [name for name in table.columns if name not in known.columns]
        return pd.concat([known, table[others]], axis=1)

    def frame(self, file: str) -> pd.DataFrame:
        """A small table of the study, as it is; `Refused` where it is missing or is no CSV."""
        path = self.folder / file
        try:
            table: pd.DataFrame = pd.read_csv(path, keep_default_na=False, na_values=[""])
        except FileNotFoundError:
            raise Refused(f"{path} does not exist: `sweeps/replicate.sh {self.name}` writes it") from None
        except (ValueError, OSError) as error:
            raise Refused(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
        return table

    @property
    def verdict(self) -> Verdict:
        """What was found; `Refused` where nothing was yet."""
        plain = _plain(self.folder / VERDICT_FILE, json.loads, f"run analysis/{self.name}.ipynb")
        found: Verdict = built(Verdict, plain, self.name)
        return found


def read(name: str, root: Path | None = None) -> Replication:
    """The replication of that name, in the `sweeps/` of `root`, or of this folder or the first above it that has one.

    Raises:
        Refused: where there is none, or its claim.toml is damaged.
    """
    folder = _root(root or Path.cwd()) / SWEEPS / name
    if not (folder / CLAIM_FILE).exists():
        there = ", ".join(each.name for each in replications(folder.parent.parent)) or "none"
        raise Refused(f"no replication {name!r} in {folder.parent}: there are {there}")
    plain = _plain(folder / CLAIM_FILE, tomllib.loads, "state claim, paper and arxiv")
    return Replication(folder=folder, claim=built(Claim, plain, str(folder / CLAIM_FILE)))


def replications(root: Path) -> Iterator[Replication]:
    """All of a checkout, by name."""
    return (read(file.parent.name, root) for file in sorted((root / SWEEPS).glob(f"*/{CLAIM_FILE}")))


def _root(start: Path) -> Path:
    for folder in (start, *start.absolute().parents):
        if (folder / SWEEPS).is_dir():
            return folder
    raise Refused(f"no folder {SWEEPS} in {start} or above: replications are in the checkout of scalelab")


def _plain(path: Path, parse: Callable[[str], Any], remedy: str) -> Any:
    try:
        return parse(path.read_text())
    except FileNotFoundError:
        raise Refused(f"{path} does not exist: {remedy}") from None
    except ValueError as error:  # of JSON, TOML and text that is no UTF-8
        raise Refused(f"{path} is damaged: {str(error).splitlines()[0]}") from None
