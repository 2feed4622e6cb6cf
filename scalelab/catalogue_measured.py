"""The README's tables of what was measured: fitted again from committed runs, or as benchmarks and replications found.

They need the checkout: `analysis/results/` has the runs, `benchmarks/results/` what benchmarks printed, on machines
that the page names beside them.
"""

import csv
from collections.abc import Mapping
from pathlib import Path

from scalelab import readers
from scalelab.catalogue_tables import Rows
from scalelab.laws import Drift, Laws, drift, study
from scalelab.replications import replications

RECORDED = Path("benchmarks") / "results"
DEPTH_RUNS = Path("analysis") / "results" / "depth_runs.csv"


def measured(root: Path) -> Mapping[str, Rows]:
    """Each table by its name; `root` is the checkout."""
    return {
        "depth": depth(root),
        "replications": replicated(root),
        **{f"measured-{file.stem}": recorded(file) for file in (root / RECORDED).glob("*.csv")},
    }


def recorded(file: Path) -> Rows:
    """A benchmark's table."""
    with file.open(newline="") as text:
        head, *rows = csv.reader(text)
    return head, rows


def replicated(root: Path) -> Rows:
    """What is claimed, by whom, what was seen here and whether it agrees; each row leads to its study."""
    rows = [
        (f"[{each.claim.claim}](sweeps/{each.name}/LOG.md)", each.claim.source,
         each.verdict.seen, f"**{each.verdict.agreement}**")
        for each in replications(root)
    ]  # fmt: skip
    return ("claim", "paper", "seen here", "agreement"), rows


def depth(root: Path) -> Rows:
    """How the optimum of three tables moves with depth."""
    laws = study(readers.read([root / DEPTH_RUNS]).table, theory={"depth": 0})
    moved = dict(sorted(_drifts(laws).items(), key=lambda item: ("mup", "depth_mup", "completep").index(item[0])))
    first = next(iter(moved.values()))
    head = ("table", f"optimum at depth {first.smallest:g} → {first.largest:g}", "exponent in depth [95 %]",
            f"copying depth {first.smallest:g}'s optimum to depth {first.largest:g} loses")  # fmt: skip
    return head, [
        (f"`{name}`", f"{2**each.first_log2_lr:.4f} → {2**each.last_log2_lr:.4f}", _exponent(each),
         f"{each.copy_cost_nats:.4f} nats")
        for name, each in moved.items()
    ]  # fmt: skip


def _drifts(laws: Laws) -> dict[str, Drift]:
    found = {str(group.key["parametrization"]): drift(group) for group in laws.groups}
    return {name: each for name, each in found.items() if each is not None}


def _exponent(each: Drift) -> str:
    if (e := each.exponent) is None:
        return "—"
    return f"{e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]".replace("-", "−")
