"""Power laws of the optimal LR in scale, and the law whose exponents theory fixes.

    log2 lr* = c + Σ p_i log2(x_i / x_i0) + scatter

x0 is the smallest scale of the evidence. A cell with a fitted valley enters with the variance of its optimum plus the
between-cell scatter; a bounded one enters by the probability of its interval. An input that moved together with earlier
ones (tokens in proportion to parameters, say) is left out and named: its effect is inside the others' exponents.

The scatter and few scales. The scatter's point value is the method of moments (DerSimonian & Laird 1986,
doi:10.1016/0197-2456(86)90046-2, for a regression). With the handful of scales a proxy sweep has, that is zero half of
the time and says nothing without degrees of freedom; Student-t intervals on one degree of freedom, on the other hand, are
±12.7 s.e. and use nothing of what the seeds tell. So the draws take the scatter from its posterior: the restricted
likelihood times a half-t prior of scale `SCATTER_PRIOR_OCTAVES`. With many scales the data decide; with two the interval
says what a typical scatter would do, and the status says that it is so.
"""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from scalelab.errors import Refused
from scalelab.laws import censored
from scalelab.laws.law import Evidence, Fit, HoldOut, Law, estimate, ranges, stored
from scalelab.laws.optimum import Optimum, describe
from scalelab.laws.table import SCALES, Array

SCATTER_PRIOR_OCTAVES = 0.1  # assumed; optima of published LR sweeps scatter by 0.05 to 0.2 octaves about their law
SCATTER_PRIOR_DOF = 4  # assumed: heavy enough that a few scales can overrule the scale above
MIN_SD_OCTAVES = 1e-4  # optima of noise-free curves would otherwise have infinite weight
COLLINEAR = 0.05  # an input needs this share of its spread unexplained by the earlier ones


def _evaluate(parameters: Mapping[str, Array], log2_ratios: Mapping[str, float]) -> Array:
    exponents = sum((parameters[name] * ratio for name, ratio in log2_ratios.items()), start=np.array(0.0))
    return np.exp2(parameters["log2_lr"] + exponents + parameters["scatter"])


def _fit(inputs: Sequence[str], evidence: Evidence) -> Fit:
    candidates = [name for name in inputs if name in evidence.scales and name in evidence.optima[0].scale]
    used, notes = _identified(evidence.optima, candidates)
    return _solved(POWER if "width" in inputs else POWER_PARAMS, evidence, used, {}, notes)


def _fit_constant(evidence: Evidence) -> Fit:
    varied = [name for name, (low, high) in ranges(evidence.optima).items() if high > low]
    if {"width", "depth"} & set(varied):  # size in parameters then repeats the shape, unless theory speaks of it
        varied = [name for name in varied if name != "params_non_embedding" or name in evidence.theory]
    fixed = {name: float(evidence.theory.get(name, 0.0)) for name in varied}
    words = ", ".join(f"{name} {value:g}" for name, value in fixed.items())
    return _solved(CONSTANT, evidence, [], fixed, [f"exponents fixed: {words}"])


def _identified(optima: Sequence[Optimum], candidates: Sequence[str]) -> tuple[list[str], list[str]]:
    """The candidates whose exponents the cells can tell apart, and a note on each that they cannot."""
    informative = [o for o in optima if o.status in ("INTERIOR", "BRACKETED")]
    varied = [name for name in candidates if len({o.scale[name] for o in optima}) > 1]
    if not varied:
        what = ", ".join(candidates) or "a scale of this law"
        raise Refused(f"one scale only ({describe(optima[0].scale)}): a law needs two or more; train others in {what}")
    if len(informative) < 2:
        advice = next(o.advice for o in optima if o.status not in ("INTERIOR", "BRACKETED"))
        raise Refused(f"{len(informative)} of {len(optima)} scales bound their optimum on both sides: {advice}")
    used: list[str] = []
    notes: list[str] = []
    for name in varied:
        column = np.log2([o.scale[name] for o in informative])
        column -= column.mean()
        basis = _design(informative, used, {})
        left = column - basis @ np.linalg.lstsq(basis, column, rcond=None)[0]
        if np.linalg.norm(left) > COLLINEAR * np.linalg.norm(column) > 0:
            used.append(name)
        else:
            notes.append(f"{name} did not vary on its own: its effect is inside the exponent of {' and '.join(used)}")
    if not used:
        raise Refused(f"every scale but one is unbounded: {next(o.advice for o in optima if o.advice)}")
    return used, notes


def _design(optima: Sequence[Optimum], inputs: Sequence[str], reference: Mapping[str, float]) -> Array:
    columns = [np.log2([o.scale[name] / reference.get(name, 1.0) for o in optima]) for name in inputs]
    return np.stack([np.ones(len(optima)), *columns], axis=-1)


def _solved(law: Law, evidence: Evidence, used: list[str], fixed: Mapping[str, float], notes: list[str]) -> Fit:
    columns = [c for c, o in enumerate(evidence.optima) if o.status != "UNUSABLE"]
    cells = [evidence.optima[c] for c in columns]
    if not any(o.status in ("INTERIOR", "BRACKETED") for o in cells):
        raise Refused(f"no scale bounds its optimum on both sides: {cells[0].advice if cells else 'add LRs'}")
    domain = ranges(evidence.optima)
    reference = {name: domain[name][0] for name in (*used, *fixed)}
    rows = _Rows(cells, used, fixed, reference)
    scatter = rows.moment_scatter()
    beta_P = rows.maximum(scatter)
    scatter_D = rows.scatter_draws(evidence)
    beta_DP = rows.draws(evidence, columns, scatter_D, beta_P)
    beta_D = dict(zip(("log2_lr", *used), beta_DP.T, strict=True))
    beta_D |= {name: np.full(len(beta_DP), value) for name, value in fixed.items()}
    estimates = {
        name: estimate(value, beta_D[name])
        for name, value in zip(("log2_lr", *used, *fixed), (*beta_P, *fixed.values()), strict=True)
    }
    deviation_D = scatter_D * evidence.rng.standard_normal(len(scatter_D))
    residuals = (rows.low_N - rows.design_NP @ beta_P)[rows.is_point]
    hold_out = _hold_out(cells, used, fixed, reference)
    return Fit(
        law=law,
        estimates=estimates,
        reference=reference,
        domain=domain,
        residuals=tuple(float(r) for r in residuals),
        scatter=scatter,
        n=len(cells),
        hold_out=hold_out,
        status=_status(rows, hold_out, notes, len(evidence.optima) - len(cells)),
        draws=stored({**beta_D, "scatter": deviation_D}),
    )


class _Rows:
    """The cells as regression rows: design, bounds (equal where the optimum was fitted) and standard deviations."""

    def __init__(
        self, cells: Sequence[Optimum], used: Sequence[str], fixed: Mapping[str, float], reference: Mapping[str, float]
    ) -> None:
        self.design_NP = _design(cells, used, reference)
        shift_N = sum((p * np.log2([o.scale[n] / reference[n] for o in cells]) for n, p in fixed.items()), start=0.0)
        points = [o.log2_lr for o in cells]
        self.is_point = np.array([point is not None for point in points])
        bounds = [(o.low, o.high) if o.log2_lr is None else (o.log2_lr, o.log2_lr) for o in cells]
        self.low_N = np.array([-np.inf if low is None else low for low, _ in bounds]) - shift_N
        self.high_N = np.array([np.inf if high is None else high for _, high in bounds]) - shift_N
        known = [o.sd_octaves for o in cells if o.sd_octaves is not None]
        typical = float(np.median(known)) if known else SCATTER_PRIOR_OCTAVES
        self.sd_N = np.array([typical if o.sd_octaves is None else max(o.sd_octaves, MIN_SD_OCTAVES) for o in cells])
        self.dof = int(self.is_point.sum()) - self.design_NP.shape[1]

    def _restricted(self) -> tuple[Array, Array, Array]:
        return self.design_NP[self.is_point], self.low_N[self.is_point], self.sd_N[self.is_point] ** 2

    def moment_scatter(self) -> float:
        """Between-cell standard deviation in octaves, by moments; 0 without degrees of freedom."""
        if self.dof <= 0:
            return 0.0
        design_NP, y_N, variance_N = self._restricted()
        hat_NN = design_NP @ censored.weighted_inverse(design_NP, variance_N[None])[0]
        q = float(((y_N - hat_NN @ y_N) ** 2 / variance_N).sum())
        spread = float((1 / variance_N).sum() - (np.diag(hat_NN) / variance_N).sum())
        return float(np.sqrt(max(q - self.dof, 0.0) / spread))

    def maximum(self, scatter: float) -> Array:
        return censored.maximum(self.design_NP, self.low_N, self.high_N, self.sd_N**2 + scatter**2)

    def scatter_draws(self, evidence: Evidence) -> Array:
        """Scatter in octaves, one for each draw, from its posterior on a grid (restricted likelihood times half-t prior)."""
        design_NP, y_N, variance_N = self._restricted()
        spread = float(np.std(y_N)) if len(y_N) else 0.0
        grid_G = np.linspace(0, 8 * SCATTER_PRIOR_OCTAVES + 3 * spread, 400)
        ratio_G = grid_G / SCATTER_PRIOR_OCTAVES
        log_G = -0.5 * (SCATTER_PRIOR_DOF + 1) * np.log1p(ratio_G**2 / SCATTER_PRIOR_DOF)
        if self.dof > 0:
            total_GN = variance_N + grid_G[:, None] ** 2
            beta_GP = censored.weighted_inverse(design_NP, total_GN) @ y_N
            residual_GN = y_N - beta_GP @ design_NP.T
            information_GPP = (design_NP.T[None] / total_GN[:, None, :]) @ design_NP
            log_G -= 0.5 * (np.log(total_GN).sum(axis=1) + (residual_GN**2 / total_GN).sum(axis=1))
            log_G -= 0.5 * np.linalg.slogdet(information_GPP)[1]
        share_G = np.cumsum(np.exp(log_G - log_G.max()))
        return np.interp(evidence.rng.uniform(size=len(evidence.log2_lr_DC)), share_G / share_G[-1], grid_G)

    def draws(self, evidence: Evidence, columns: Sequence[int], scatter_D: Array, start_P: Array) -> Array:
        centred_DN = evidence.log2_lr_DC[:, columns]
        centred_DN = np.where(
            self.is_point,
            centred_DN
            - np.array([0.0 if o.log2_lr is None else o.log2_lr for o in (evidence.optima[c] for c in columns)]),
            0.0,
        )

        def noise() -> Array:
            shuffled_DN = centred_DN[evidence.rng.permutation(len(centred_DN))]
            return np.asarray(shuffled_DN + scatter_D[:, None] * evidence.rng.standard_normal(centred_DN.shape))

        variance_DN = self.sd_N**2 + scatter_D[:, None] ** 2
        return censored.sample(self.design_NP, self.low_N, self.high_N, variance_DN, noise, start_P, evidence.rng)


def _hold_out(
    cells: Sequence[Optimum], used: Sequence[str], fixed: Mapping[str, float], reference: Mapping[str, float]
) -> HoldOut | None:
    """The largest fitted cell predicted from those smaller than it; None with fewer than three scales."""
    size = [sum(float(np.log2(o.scale[name])) for name in (*used, *fixed)) for o in cells]
    fitted = [n for n, o in enumerate(cells) if o.log2_lr is not None]
    if len(set(size)) < 3 or not fitted:
        return None
    largest = max(fitted, key=lambda n: size[n])
    rest = [o for o, s in zip(cells, size, strict=True) if s < size[largest] - 1e-9]
    anchors = [o for o in rest if o.status in ("INTERIOR", "BRACKETED")]
    if len(anchors) <= len(used) or np.linalg.matrix_rank(_design(anchors, used, reference), tol=1e-6) <= len(used):
        return None
    rows = _Rows(rest, used, fixed, reference)
    left_out = _Rows([cells[largest]], used, fixed, reference)
    error = float((left_out.design_NP @ rows.maximum(rows.moment_scatter()) - left_out.low_N)[0])
    measured = cells[largest].log2_lr
    assert measured is not None
    return HoldOut(
        scale=dict(cells[largest].scale),
        predicted_log2_lr=measured + error,
        measured_log2_lr=measured,
        error_octaves=error,
        excess_nats=cells[largest].excess_nats(measured + error),
    )


def _status(rows: _Rows, hold_out: HoldOut | None, notes: list[str], unusable: int) -> str:
    n, points = len(rows.is_point), int(rows.is_point.sum())
    said = [f"{n} scales, {points} with a fitted optimum" + (f", {n - points} with bounds" if n > points else "")]
    if unusable:
        said.append(f"{unusable} unusable")
    if rows.dof <= 2:
        said.append(
            f"{max(rows.dof, 0)} degrees of freedom: the interval rests on the noise model and on an assumed scatter of "
            f"about {SCATTER_PRIOR_OCTAVES} octaves between scales; add scales"
        )
    said.extend(notes)
    if hold_out is None:
        said.append("no hold-out: train three scales or more to test the extrapolation")
    else:
        cost = f"costing {hold_out.excess_nats:.2g} nats"
        said.append(f"the largest scale left out is predicted {hold_out.error_octaves:+.2f} octaves off, {cost}")
    return "; ".join(said)


_SHAPE = ("width", "depth", "tokens", "batch_tokens")
_SIZE = ("params_non_embedding", "tokens", "batch_tokens")
_UNITS = {**SCALES, "batch_tokens": "tokens a step"}

POWER = Law(
    name="power",
    inputs={name: _UNITS[name] for name in _SHAPE},
    output="lr",
    unit="peak LR",
    form="lr = 2^log2_lr · Π (x/x0)^p",
    source="power laws in width follow from muP (arXiv:2203.03466); in tokens, Bjorck et al. (arXiv:2409.19913)",
    evaluate=_evaluate,
    fit=functools.partial(_fit, _SHAPE),
)
POWER_PARAMS = Law(
    name="power_params",
    inputs={name: _UNITS[name] for name in _SIZE},
    output="lr",
    unit="peak LR",
    form="lr = 2^log2_lr · (N/N0)^p · (D/D0)^q",
    source="Step Law (arXiv:2503.04715), whose N is non-embedding parameters; Bjorck et al. (arXiv:2409.19913)",
    evaluate=_evaluate,
    fit=functools.partial(_fit, _SIZE),
)
CONSTANT = Law(
    name="constant",
    inputs=_UNITS,
    output="lr",
    unit="peak LR",
    form="lr = 2^log2_lr · Π (x/x0)^p with every p fixed by theory, 0 where it names none",
    source="muP: the base LR does not move with width (arXiv:2203.03466)",
    evaluate=_evaluate,
    fit=_fit_constant,
)
