"""What is assumed before any run: the literature's exponents, wide; what a parametrization claims, narrower."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from scalelab.errors import Refused, unknown
from scalelab.laws.joint import priors
from scalelab.laws.joint.priors import OTHER, Prior
from scalelab.laws.law import Array
from scalelab.parametrizations import table
from scalelab.samplers.law.mean import Law
from scalelab.samplers.law.roles import role

CLAIMED = Prior(mean=0.0, sd=0.2, source="the parametrization claims that the optimum stays")
BEND = 0.025  # a tenfold of compute moves the optimum's local exponent in it by .035: assumed
CURVATURE_BY_COST = 0.05  # assumed: a hundredfold of compute makes a valley a quarter steeper or flatter
CHAIN = 0.5  # of the exponents of weight decay, beside what they are chained of: assumed
LOG_ALPHA = (math.log(0.35), 0.5)  # Chinchilla .34 and .28 (arXiv:2203.15556), Kaplan .076 to .1 (arXiv:2001.08361)


def theta_prior(
    law: Law, middle_H: Array, *, level: float, parametrization: str | None,
    given: Mapping[str, tuple[float, float]],
) -> tuple[Array, Array]:  # fmt: skip
    """Means and standard deviations of the law's parameters.

    Args:
        law: whose parameters.
        middle_H: where the optima are expected at the reference scale, in the hyperparameters' own units.
        level: the lowest loss seen; losses are in units of their own size, as valleys and noise are thought of.
        parametrization: a table whose claims are believed; None believes none.
        given: (mean, sd) of parameters by name, in place of these.

    Raises:
        Refused: on a name that is no parameter of the law, or an sd that is not positive.
    """
    found: dict[str, tuple[float, float]] = {"floor": (level - 0.1, 0.3)}
    for size in law.sizes:
        found[f"floor of {size}"] = (math.log(0.1), 1.5)
        found[f"floor ~ {size}"] = LOG_ALPHA
    for place, name in enumerate(law.hypers):
        known = role(name)
        found[name] = (float(middle_H[place]), 2.0)
        for size in law.sizes:
            expected = exponent(known, role(size), parametrization)
            found[f"{name} ~ {size}"] = (expected.mean, expected.sd)
        found[f"{name} bend"] = (0.0, BEND)
        curvature = priors.LOG_CURVATURE.get(known, priors.OTHER_CURVATURE)
        found[f"{name} curvature"] = (curvature.mean, 1.2)
        found[f"{name} curvature ~ cost"] = (0.0, CURVATURE_BY_COST)
        skew = priors.SKEW.get(known, priors.OTHER_SKEW)
        found[f"{name} skew"] = (skew.mean, skew.sd)
        for other in law.hypers[:place]:
            found[f"{name} with {other}"] = INTERACTIONS.get((known, role(other)), (0.0, 0.4))
    for name, (mean, sd) in given.items():
        if name not in found:
            raise unknown("prior", name, law.names)
        if not (math.isfinite(mean) and math.isfinite(sd) and sd > 0):
            raise Refused(f"prior {name}: accepted are a mean and a positive standard deviation, not {mean:g}, {sd:g}")
        found[name] = (mean, sd)
    both = np.array([found[name] for name in law.names])
    return both[:, 0], both[:, 1]


# u_j = z_j + Σ R_ji z_i. Weight decay acts through τ = B/(lr·λ·D) (arXiv:2505.13738); the best rate grows like a root
# of the batch near its best one (arXiv:2405.14578).
INTERACTIONS = {
    ("weight_decay", "lr"): (1.0, 0.4), ("weight_decay", "batch_tokens"): (-1.0, 0.4),
    ("lr", "weight_decay"): (0.3, 0.4), ("batch_tokens", "weight_decay"): (-0.3, 0.4),
    ("batch_tokens", "lr"): (-0.4, 0.4), ("lr", "batch_tokens"): (-0.4, 0.4),
}  # fmt: skip


def exponent(hyper: str, size: str, parametrization: str | None) -> Prior:
    """Prior of the exponent by which the optimum of a hyperparameter moves with a size, all others at their own optima.

    The literature's are of the learning rate at a given batch and of the time scale τ: chained here.
    """
    if parametrization is not None and hyper == "lr" and size in table(parametrization).transfers:
        return CLAIMED
    if hyper == "batch_tokens":
        return priors.exponent("batch_tokens", size)
    if hyper not in ("lr", "weight_decay"):
        return OTHER
    batch = priors.exponent("batch_tokens", size)
    at_batch, by_batch = priors.exponent("lr", size), priors.exponent("lr", "batch_tokens")
    lr = at_batch.mean + by_batch.mean * batch.mean
    if hyper == "lr":
        return Prior(mean=lr, sd=_total([at_batch.sd, by_batch.mean * batch.sd]), source=at_batch.source)
    tau = priors.exponent("tau", size)
    mean = batch.mean - lr - tau.mean - (1.0 if size == "tokens" else 0.0)
    return Prior(mean=mean, sd=_total([tau.sd, at_batch.sd, batch.sd, CHAIN]), source=tau.source)


def _total(parts: Sequence[float]) -> float:
    return math.sqrt(sum(part**2 for part in parts))
