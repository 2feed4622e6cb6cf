"""Studies whose truth is known: what a recipe's belief states, and what its setting then really loses."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scalelab.laws import GroupLaws
from scalelab.laws.checked import checked
from scalelab.laws.joint.fit import fit_joint
from scalelab.laws.law import Array
from scalelab.laws.optima.cells import grouped, swept_scales
from scalelab.laws.optima.two_stage import two_stage
from scalelab.recommend.belief import believed
from scalelab.recommend.regret import level, regrets, safest
from tests.laws.sweeps import sweep
from tests.laws.synthetic import BEST, CURVATURE, SHAPES, Grid, best_log

BEYOND = 8  # times the largest width: the target
CENTRE, CURVED, SKEWED = -7.2, 0.04, 0.1  # of `sweep`


def fitted(table: pd.DataFrame, *, draws: int = 300, seed: int = 0) -> GroupLaws:
    """A group's optima, their laws and the joint fit; no law of the loss, no validation."""
    runs = checked(table)
    scales = swept_scales(runs)
    stages = two_stage(grouped(runs, scales=scales)[0], scales=scales, draws=draws, entropy=[seed])
    joint = fit_joint(runs, draws=draws, rng=np.random.default_rng(seed), profiles=False)
    return GroupLaws(
        key={}, noise=stages.noise, optima=stages.optima, lr_fits=stages.fits, joint=joint, setting_fits={},
        loss_fits={}, loss_scores=(), validation=None, compared=(), cards=(), not_fitted=stages.not_fitted,
        n_runs=len(runs), n_diverged=0, n_failed=0, n_repeated=0,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One study: stated and realised regret in nats of the setting, of half and of double its learning rate; whether
    the interval holds the truth; errors in octaves of the choice, and of the measurement alone; the weight of theory.
    """

    stated: tuple[float, ...]
    realised: tuple[float, ...]
    covered: bool
    error: float
    measured_error: float
    theory: float


def width_study(
    seed: int, *, widths: Sequence[int], exponent: float, claims: Sequence[str] = ("width",), scatter: float = 0.15,
    noise: float = 0.004,
) -> Outcome:  # fmt: skip
    """Learning rates swept over widths, a recipe for eight times the largest."""
    rng = np.random.default_rng([seed, 7])
    table = sweep(
        rng, widths=tuple(widths), exponent=exponent, scatter=scatter, seeds=2, noise_nats=noise, offset_nats=noise
    )
    width = float(BEYOND * max(widths))
    own = CENTRE + exponent * np.log2(width / widths[0]) + scatter * rng.standard_normal()
    group = fitted(table, seed=seed)
    inputs = {
        "width": width, "depth": 4.0, "params_non_embedding": 48 * width**2, "tokens": 1e8, "batch_tokens": 65536.0,
    }  # fmt: skip
    belief = believed(group, inputs, claims, proxy={"batch_tokens": 65536.0})
    chosen = safest(belief, "lr", {})
    low, high = np.quantile(belief.best("lr", {}), [0.025, 0.975]) / np.log(2)
    assert group.joint is not None
    alone = group.joint.predict(width=width).values["lr"].value

    def lost(log2_lr: float) -> float:
        u = log2_lr - own
        return float(CURVED * u**2 * max(1 + SKEWED * u, 0.3))

    log2 = chosen / np.log(2)
    return Outcome(
        stated=tuple(r.nats for r in regrets(belief, {"lr": chosen}, level(group, inputs))),
        realised=(lost(log2), lost(log2 - 1), lost(log2 + 1)),
        covered=bool(low <= own <= high), error=float(log2 - own), measured_error=float(np.log2(alone) - own),
        theory=belief.theory,
    )  # fmt: skip


def batch_study(seed: int) -> Outcome:
    """Learning rate and batch swept over parameters and tokens, a recipe for ten times of both; regret as a share."""
    rng = np.random.default_rng([seed, 11])
    group = fitted(Grid(batch_octaves=(-2, -1, 0, 1, 2)).draw(rng), seed=seed)
    params, tokens = 3e9, 8e10
    own = {name: 0.1 * rng.standard_normal() for name in BEST}
    inputs = {"params_non_embedding": params, "tokens": tokens, "batch_tokens": 2.0**20, "weight_decay": 0.0}
    belief = believed(group, inputs, (), proxy={"batch_tokens": 2.0**19})
    logs = {"batch_tokens": safest(belief, "batch_tokens", {})}
    logs["lr"] = safest(belief, "lr", logs)
    at = level(group, inputs)
    best_batch = best_log("batch_tokens", params, tokens) + own["batch_tokens"]
    low, high = np.quantile(belief.best("batch_tokens", {}), [0.025, 0.975])

    def lost(lr: float, batch: float) -> float:
        about = best_log("lr", params, tokens, float(np.exp(batch))) + own["lr"]
        off = {"lr": np.array(lr - about), "batch_tokens": np.array(batch - best_batch)}
        return float(np.expm1(sum(CURVATURE[name] * SHAPES["linex"](x) for name, x in off.items())))

    return Outcome(
        stated=tuple(r.nats / at.nats for r in regrets(belief, logs, at)[:3]),
        realised=tuple(lost(logs["lr"] + step, logs["batch_tokens"]) for step in (0.0, -np.log(2), np.log(2))),
        covered=bool(low <= best_batch <= high), error=float(logs["batch_tokens"] - best_batch) / np.log(2),
        measured_error=0.0, theory=belief.theory,
    )  # fmt: skip


def means(outcomes: Sequence[Outcome]) -> tuple[Array, Array, Array]:
    """Mean stated and realised regrets, and the standard error of the second."""
    realised = np.array([each.realised for each in outcomes])
    error = realised.std(axis=0, ddof=1) / np.sqrt(len(outcomes))
    return np.array([each.stated for each in outcomes]).mean(axis=0), realised.mean(axis=0), error
