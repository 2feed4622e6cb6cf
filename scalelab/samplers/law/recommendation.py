"""What the search found: a setting at the target, with its interval, its expected regret and how far to trust it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scalelab.samplers.law.belief import Runs
from scalelab.samplers.law.coordinates import Spots
from scalelab.samplers.law.gain import regret
from scalelab.samplers.law.prior import BEND
from scalelab.samplers.law.target import Outlook, best, unknown_at

Z = 1.959964  # of a two-sided interval of 95 %
MISFIT = 3.0  # ln evidence: twenty to one that the law misses something
BENT = 2.0  # times the standard deviation by which bends are expected
FAR = 30.0  # times the dearest run's cost
FEW = 2  # runs for each parameter of the law that has one


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """`params` at the target; the loss expected there between `low` and `high` (95 %), in the objective's units.

    `expected_regret` is what is lost on average beside the best setting there, `regret_high` what is not exceeded with
    a chance of 95 %, in the same units. `exponents` are the law's, by "lr ~ tokens"; "floor ~ tokens" is that of the
    loss. `fits` says whether the runs are as the law describes them, `warnings` what else to know.
    """

    params: Mapping[str, Any]
    loss: float
    low: float
    high: float
    expected_regret: float
    regret_high: float
    exponents: Mapping[str, Interval]
    fits: bool
    warnings: tuple[str, ...]


def recommendation(outlook: Outlook, target: Spots, runs: Runs, rng: np.random.Generator) -> Recommendation:
    """The best setting at the target by what is believed."""
    coordinates, posterior = outlook.coordinates, outlook.posterior
    actions = best(target, outlook, rng)
    chosen = actions[0]
    params = coordinates.params(chosen.scale, chosen.hyper_H, chosen.choice)
    at = posterior.law_at(coordinates.points([params]))
    mean, sd = float(posterior.mean(at)[0]), math.sqrt(max(float(posterior.covariance(at, at)[0, 0]), 0.0))
    lost = regret(posterior, unknown_at(target, outlook, actions), rng)
    return Recommendation(
        params=params,
        loss=mean * posterior.unit,
        low=(mean - Z * sd) * posterior.unit,
        high=(mean + Z * sd) * posterior.unit,
        expected_regret=lost.mean * posterior.unit,
        regret_high=lost.high * posterior.unit,
        exponents=_exponents(outlook),
        fits=posterior.surplus < MISFIT and not _bent(outlook),
        warnings=tuple(_warnings(outlook, target, runs)),
    )


def _exponents(outlook: Outlook) -> dict[str, Interval]:
    mean_P, covariance_PP = outlook.posterior.parameters()
    sd_P = np.sqrt(np.diag(covariance_PP))
    found = {}
    for k, name in enumerate(outlook.posterior.law.names):
        if " ~ " not in name or "curvature" in name:
            continue
        ends = [float(mean_P[k] + z * sd_P[k]) for z in (0.0, -Z, Z)]
        value, low, high = (math.exp(end) for end in ends) if name.startswith("floor ") else ends
        found[name] = Interval(value=value, low=low, high=high)
    return found


def _bent(outlook: Outlook) -> dict[str, float]:
    """By how much the exponent of an optimum in compute changes for each e-fold of it, where it plainly does."""
    mean_P, covariance_PP = outlook.posterior.parameters()
    sd_P = np.sqrt(np.diag(covariance_PP))
    return {
        name.removesuffix(" bend"): float(mean)
        for name, mean, sd in zip(outlook.posterior.law.names, mean_P, sd_P, strict=True)
        if name.endswith(" bend") and abs(mean) > max(Z * sd, BENT * BEND)
    }


def _warnings(outlook: Outlook, target: Spots, runs: Runs) -> list[str]:
    posterior = outlook.posterior
    said = []
    if posterior.surplus >= MISFIT:
        path, share, local, floor = np.exp(posterior.log_size_K[:4])
        said.append(
            f"the law does not fit these runs (evidence of {math.exp(min(posterior.surplus, 99)):.2g} to 1): best"
            f" settings leave their power laws by about {path:.2f} e-folds, valleys are wrong by {share:.0%} of their"
            f" height, losses near the bottom by {local:.2%}, floors by {floor:.2%}; trust runs near the target's scale"
        )
    said += [
        f"the best {name} follows no power law: its exponent in compute changes by {bend:+.2f} for each e-fold of it;"
        " trust runs near the target's scale"
        for name, bend in _bent(outlook).items()
    ]
    ratio = float(target.cost_M.max()) / max(runs.dearest, 1e-300)
    if ratio > FAR:
        said.append(f"the target costs {ratio:.0f} times the dearest run that ended: confirm at a scale between")
    hypers = len(outlook.coordinates.hypers)
    if len(runs.loss_N) < FEW * (hypers + 1) * (len(posterior.law.sizes) + 1):
        said.append(f"{len(runs.loss_N)} runs ended, few for {hypers} hyperparameters: much of this is the prior's")
    return said
