"""Loss at the optimal LR against size, for display: E + A (N/N0)^-alpha.

With fewer than four sizes the asymptote cannot be told from the exponent; E is then fixed at 0, which leaves a straight
line in the logarithms, and the status says so. One input, so tokens that moved with size are inside alpha.
"""

from collections.abc import Mapping

import numpy as np

from scalelab.errors import Refused
from scalelab.laws.cells import SCALES, Array
from scalelab.laws.law import Evidence, Fit, Law, estimate, ranges, stored

EXPONENTS_K = np.linspace(0.02, 2.0, 100)  # per factor of N; published loss exponents in N are 0.05 to 0.5


def _evaluate(parameters: Mapping[str, Array], log2_ratios: Mapping[str, float]) -> Array:
    (ratio,) = log2_ratios.values()
    return parameters["E"] + parameters["A"] * np.exp2(-parameters["alpha"] * ratio) + parameters["scatter"]


def _fit(evidence: Evidence) -> Fit:
    cells = [o for o in evidence.optima if o.loss_nats is not None and o.loss_sd_nats is not None]
    domain = ranges(evidence.optima)
    name = next((n for n in ("params_non_embedding", "width") if n in domain and domain[n][0] < domain[n][1]), None)
    sizes = sorted({o.scale[name] for o in cells}) if name is not None else []
    if name is None or len(sizes) < 2:
        raise Refused("loss against size needs two sizes with a fitted optimum: vary params_non_embedding or width")
    log2_ratio_N = np.log2([o.scale[name] / sizes[0] for o in cells])
    loss_N = np.array([o.loss_nats for o in cells], dtype=float)
    sd_N = np.array([o.loss_sd_nats for o in cells], dtype=float)
    asymptote = len(sizes) >= 4
    solve = _with_asymptote if asymptote else _straight
    point = solve(log2_ratio_N, loss_N[None])
    residual_N = loss_N - _evaluate({**point, "scatter": np.array(0.0)}, {name: log2_ratio_N})  # type: ignore[dict-item]
    dof = len(cells) - (3 if asymptote else 2)
    scatter = float(np.sqrt(max((residual_N**2).sum() / dof - (sd_N**2).mean(), 0))) if dof > 0 else 0.0
    normal_DN = evidence.rng.standard_normal((len(evidence.log2_lr_DC), len(cells)))
    drawn = solve(log2_ratio_N, loss_N + np.sqrt(sd_N**2 + scatter**2) * normal_DN)
    form = f"{len(sizes)} sizes" + ("" if asymptote else ": E fixed at 0 (log-linear); four or more free it")
    return Fit(
        law=LOSS,
        estimates={key: estimate(float(point[key][0]), drawn[key]) for key in point},
        reference={name: sizes[0]},
        domain=domain,
        residuals=tuple(float(r) for r in residual_N),
        scatter=scatter,
        n=len(cells),
        hold_out=None,
        status=f"{form}; for display only",
        draws=stored({**drawn, "scatter": scatter * evidence.rng.standard_normal(len(normal_DN))}),
    )


def _straight(log2_ratio_N: Array, loss_DN: Array) -> dict[str, Array]:
    slope_D, level_D = np.polyfit(log2_ratio_N, np.log2(np.maximum(loss_DN, 1e-12)).T, 1)
    return {"E": np.zeros(len(loss_DN)), "A": np.exp2(level_D), "alpha": -slope_D}


def _with_asymptote(log2_ratio_N: Array, loss_DN: Array) -> dict[str, Array]:
    """Variable projection: at each exponent of a grid E ≥ 0 and A are linear; the best exponent wins, draw by draw."""
    best = np.full(len(loss_DN), np.inf)
    found = {key: np.zeros(len(loss_DN)) for key in ("E", "A", "alpha")}
    for alpha in EXPONENTS_K:
        falling_N = np.exp2(-alpha * log2_ratio_N)
        centred_N = falling_N - falling_N.mean()
        a_D = loss_DN @ centred_N / (centred_N @ centred_N)
        e_D = loss_DN.mean(axis=1) - a_D * falling_N.mean()
        a_D = np.where(e_D < 0, loss_DN @ falling_N / (falling_N @ falling_N), a_D)
        e_D = np.maximum(e_D, 0)
        misfit_D = ((loss_DN - e_D[:, None] - a_D[:, None] * falling_N) ** 2).sum(axis=1)
        better = misfit_D < best
        best = np.where(better, misfit_D, best)
        for key, value in (("E", e_D), ("A", a_D), ("alpha", np.full_like(a_D, alpha))):
            found[key] = np.where(better, value, found[key])
    return found


LOSS = Law(
    name="loss",
    inputs={name: SCALES[name] for name in ("params_non_embedding", "width")},
    output="loss_nats",
    unit="nats a token",
    form="loss = E + A (N/N0)^-alpha",
    source="the N term of Hoffmann et al. (arXiv:2203.15556); at each size's optimal LR",
    evaluate=_evaluate,
    fit=_fit,
)
