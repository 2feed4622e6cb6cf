"""The proof of a recipe: its regret, measured at the target, and what finding it cost."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelab.errors import Refused
from scalelab.files import write_atomically
from scalelab.laws.columns import SCALES
from scalelab.laws.optima.cells import groups
from scalelab.laws.optima.optimum import optima
from scalelab.readers import Runs
from scalelab.recipe import Recipe
from scalelab.spec import as_plain

DRAWS = 1000  # of the bootstrap of the target's optimum
AT_TARGET = ("width", "depth", "tokens", "batch_tokens")  # of a recipe's target, what a table of runs says
SAME_LR = 1e-3  # relative: a run counts as the recipe's when its lr agrees this well


@dataclass(frozen=True, kw_only=True)
class LrResult:
    """Runs at one LR of the target: mean loss in nats, its standard deviation over seeds, seeds, how many diverged."""

    lr: float
    loss_nats: float | None
    sd_nats: float | None
    seeds: int
    diverged: int


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """A recipe's regret at its target.

    `gap_nats` is the mean loss at the recipe's LR minus that at the best *other* LR tried (`rival_lr`), over the seeds
    both have, with `se_nats` its standard error over paired seeds (a seed shares initialisation and data order; None
    with fewer than two). `regret_nats` is the gap where it is positive, else 0: the recipe's is the best tried. The
    rival is picked from `results`, so noise makes it look better than it is and the regret errs upwards; a grid by
    factors of two cannot see a smaller miss. `valley_lr` (with its 95 % interval) is the optimum of a valley fitted to
    the runs, `valley_regret_nats` the recipe's excess over that valley's floor; None where no valley could be fitted.
    `target_flops` is one run of the target, `replaced_flops` the proxies' LR grid with their seeds at that cost a run.
    """

    recipe_lr: float
    rival_lr: float
    gap_nats: float
    se_nats: float | None
    regret_nats: float
    regret_percent: float
    seed_sd_nats: float | None
    valley_lr: float | None
    valley_lr_low: float | None
    valley_lr_high: float | None
    valley_regret_nats: float | None
    results: tuple[LrResult, ...]
    target_flops: float
    tuning_flops: float | None
    replaced_flops: float | None

    @property
    def compute_share(self) -> float | None:
        """Compute spent on tuning as a share of the same sweep at the target."""
        if self.tuning_flops is None or not self.replaced_flops:
            return None
        return self.tuning_flops / self.replaced_flops

    @property
    def target_runs(self) -> float | None:
        """Compute spent on tuning in runs of the target."""
        return None if self.tuning_flops is None else self.tuning_flops / self.target_flops


def confirm(recipe: Recipe, runs: Runs, *, proxies: Runs | None = None) -> Confirmation:
    """Compare the runs at a recipe's target.

    Args:
        recipe: what was recommended.
        runs: runs at the target, at the recipe's LR and at others; other runs in the same folders are left out.
        proxies: the sweep behind the recipe, for its compute.

    Raises:
        Refused: where there is no run at the recipe's setting, none at another LR, or all of the recipe's diverged.
    """
    table = _with(
        runs, ("parametrization", "optimizer", *AT_TARGET, "weight_decay", "lr", "seed", "loss_nats", "outcome")
    )
    at_target = table[
        (table["parametrization"] == recipe.parametrization)
        & (table["optimizer"] == recipe.optimizer)
        & np.logical_and.reduce([table[name] == recipe.target[name] for name in AT_TARGET])
        & (table["weight_decay"] == recipe.run["weight_decay"])
        & (table["outcome"] != "FAILED")
    ]
    if at_target.empty:
        raise Refused(
            f"no run at the recipe's target ({', '.join(f'{name} {recipe.target[name]:,}' for name in AT_TARGET)},"
            f" weight_decay {recipe.run['weight_decay']:g}): `scalelab train -m --recipe … lr_factor=0.5,1,2`"
        )
    losses = at_target.pivot_table(index="lr", columns="seed", values="loss_nats", dropna=False)
    lrs = losses.index.to_numpy()
    mine = lrs[np.argmin(np.abs(np.log(lrs / recipe.lr.value)))]
    if abs(mine / recipe.lr.value - 1) > SAME_LR:
        raise Refused(f"no run at the recipe's lr {recipe.lr.value:.6g} (nearest {mine:.6g}): run lr_factor=1 too")
    if len(lrs) < 2:
        raise Refused("only the recipe's own lr was run: a regret needs others, `lr_factor=0.5,1,2`")
    diverged = set(at_target.loc[at_target["outcome"] == "DIVERGED", "lr"])
    if mine in diverged:
        raise Refused(f"the recipe's lr {mine:.6g} diverged at the target: the regret is unbounded, see its trial.json")
    # Over the seeds that both have: a run that is not there (yet) counts for neither.
    gaps = {lr: (losses.loc[mine] - losses.loc[lr]).dropna() for lr in lrs if lr != mine and lr not in diverged}
    paired = {lr: gap.to_numpy() for lr, gap in gaps.items() if len(gap)}
    if not paired:
        raise Refused("no other lr has a seed in common with the recipe's and did not diverge: run more of them")
    rival = max(paired, key=lambda lr: float(paired[lr].mean()))
    gap, seeds = float(paired[rival].mean()), len(paired[rival])
    best_loss = float(losses.loc[mine if gap <= 0 else rival].mean())
    spread = losses.std(axis=1, ddof=1).dropna()
    return Confirmation(
        recipe_lr=float(mine),
        rival_lr=float(rival),
        gap_nats=gap,
        se_nats=float(paired[rival].std(ddof=1)) / math.sqrt(seeds) if seeds > 1 else None,
        regret_nats=max(0.0, gap),
        regret_percent=100 * max(0.0, gap) / best_loss,
        seed_sd_nats=float(np.sqrt(np.square(spread).mean())) if len(spread) else None,
        results=tuple(_result(lr, at_target[at_target["lr"] == lr]) for lr in map(float, lrs)),
        target_flops=recipe.cost_flops,
        **_valley(at_target, float(mine)),
        **_compute(recipe, proxies),
    )


def _with(runs: Runs, names: Sequence[str]) -> pd.DataFrame:
    """The table of the runs, which has these columns; files may lack some."""
    missing = [name for name in names if name not in runs.table]
    if missing:
        raise Refused(f"{', '.join(runs.sources)}: no column {', '.join(missing)}, which a confirmation needs")
    return runs.table


def _valley(at_target: pd.DataFrame, lr: float) -> dict[str, float | None]:
    """The target's own optimum, from the same robust fit as the proxies'."""
    (group,) = groups(at_target, scales=tuple(SCALES))
    (optimum,), _, _ = optima(group.cells, draws=DRAWS, rng=np.random.default_rng(0))
    return {
        "valley_lr": optimum.lr,
        "valley_lr_low": optimum.lr_low,
        "valley_lr_high": optimum.lr_high,
        "valley_regret_nats": None if optimum.log2_lr is None else optimum.excess_nats(math.log2(lr)),
    }


def _result(lr: float, rows: pd.DataFrame) -> LrResult:
    losses = rows["loss_nats"].dropna()
    return LrResult(
        lr=lr,
        loss_nats=float(losses.mean()) if len(losses) else None,
        sd_nats=float(losses.std(ddof=1)) if len(losses) > 1 else None,
        seeds=len(rows),
        diverged=int((rows["outcome"] == "DIVERGED").sum()),
    )


def _compute(recipe: Recipe, proxies: Runs | None) -> dict[str, float | None]:
    if proxies is None:
        return {"tuning_flops": None, "replaced_flops": None}
    table = _with(proxies, ("parametrization", "lr", "seed", "cost_flops"))
    swept = table[table["parametrization"] == recipe.parametrization]
    if "optimizer" in swept:
        swept = swept[swept["optimizer"] == recipe.optimizer]
    if swept.empty:
        raise Refused(f"--proxies hold no {recipe.parametrization!r} run")
    runs = swept["lr"].nunique() * swept["seed"].nunique()
    return {"tuning_flops": float(swept["cost_flops"].sum()), "replaced_flops": runs * recipe.cost_flops}


def plain(confirmation: Confirmation) -> dict[str, Any]:
    """A confirmation as JSON types, with what follows from it."""
    stated: dict[str, Any] = as_plain(confirmation)
    return stated | {"compute_share": confirmation.compute_share, "target_runs": confirmation.target_runs}


def write(confirmation: Confirmation, folder: Path) -> None:
    """Write confirmation.json, atomically."""
    write_atomically(folder / "confirmation.json", json.dumps(plain(confirmation), indent=1) + "\n")
