"""Power laws of the optimal LR in scale, and the law whose exponents theory fixes.

    log2 lr* = c + Σ p_i log2(x_i / x_i0) + scatter

x0 is the smallest scale of the evidence. A cell with a fitted valley enters with the variance of its optimum plus the
between-cell scatter; a bounded one enters by the probability of its interval. An input that moved together with earlier
ones (tokens in proportion to parameters, say) is left out and named: its effect is inside the others' exponents.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from scalelab.errors import Refused
from scalelab.laws.columns import PARAMS, SCALES
from scalelab.laws.fitted import Fit, HoldOut, estimate, ranges, stored
from scalelab.laws.law import Array, Law, Parameter, Values
from scalelab.laws.optima.evidence import Evidence
from scalelab.laws.optima.noise import ASSUMED_NOISE_NATS
from scalelab.laws.optima.optimum import Optimum, describe
from scalelab.laws.optima.rows import SCATTER_PRIOR_OCTAVES, Rows, design

COLLINEAR = 0.05  # an input needs this share of its spread unexplained by the earlier ones


def _value(parameters: Values, ratios: Values) -> Array:
    exponents = sum((parameters[name] * np.log2(ratio) for name, ratio in ratios.items()), start=np.array(0.0))
    return np.asarray(np.exp2(parameters["log2_lr"] + exponents))


def _fit(law: Law, evidence: Evidence) -> Fit:
    candidates = [name for name in law.inputs if name in evidence.scales and name in evidence.optima[0].scale]
    used, notes = _identified(evidence.optima, candidates)
    return _solved(law, evidence, used, {}, notes)


def _fit_constant(evidence: Evidence) -> Fit:
    varied = [name for name, (low, high) in ranges([o.scale for o in evidence.optima]).items() if high > low]
    if {"width", "depth"} & set(varied):  # size in parameters then repeats the shape, unless theory speaks of it
        varied = [name for name in varied if name not in PARAMS or name in evidence.theory]
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
        basis = design(informative, used, {})
        left = column - basis @ np.linalg.lstsq(basis, column, rcond=None)[0]
        if np.linalg.norm(left) > COLLINEAR * np.linalg.norm(column) > 0:
            used.append(name)
        else:
            notes.append(f"{name} did not vary on its own: its effect is inside the exponent of {' and '.join(used)}")
    if not used:
        raise Refused(f"every scale but one is unbounded: {next(o.advice for o in optima if o.advice)}")
    return used, notes


def _solved(law: Law, evidence: Evidence, used: list[str], fixed: Mapping[str, float], notes: list[str]) -> Fit:
    columns = [c for c, o in enumerate(evidence.optima) if o.status != "UNUSABLE"]
    cells = [evidence.optima[c] for c in columns]
    if not any(o.status in ("INTERIOR", "BRACKETED") for o in cells):
        raise Refused(f"no scale bounds its optimum on both sides: {cells[0].advice if cells else 'add LRs'}")
    domain = ranges([o.scale for o in evidence.optima])
    reference = {name: domain[name][0] for name in (*used, *fixed)}
    rows = Rows(cells, used, fixed, reference)
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
        status=_status(rows, hold_out, notes, len(evidence.optima) - len(cells), {o.noise.source for o in cells}),
        draws=stored({**beta_D, "scatter": deviation_D}),
    )


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
    if len(anchors) <= len(used) or np.linalg.matrix_rank(design(anchors, used, reference), tol=1e-6) <= len(used):
        return None
    rows = Rows(rest, used, fixed, reference)
    left_out = Rows([cells[largest]], used, fixed, reference)
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


def _status(rows: Rows, hold_out: HoldOut | None, notes: list[str], unusable: int, noise: set[str]) -> str:
    n, points = len(rows.is_point), int(rows.is_point.sum())
    said = [f"{n} scales, {points} with a fitted optimum" + (f", {n - points} with bounds" if n > points else "")]
    if unusable:
        said.append(f"{unusable} unusable")
    if rows.dof <= 2:
        said.append(
            f"{max(rows.dof, 0)} degrees of freedom: the interval rests on the noise model and an assumed scatter of "
            f"about {SCATTER_PRIOR_OCTAVES} octaves between scales; add scales"
        )
    if "assumed" in noise:
        said.append(f"the noise is assumed ({ASSUMED_NOISE_NATS} nats): replicate a few runs with other seeds")
    elif "residuals" in noise:
        said.append("the noise is taken from residuals: replicate a few runs with other seeds")
    said.extend(notes)
    if hold_out is None:
        said.append("no hold-out: it takes three scales with fitted optima to test the extrapolation")
    else:
        cost = f"costing {hold_out.excess_nats:.2g} nats"
        said.append(f"the largest scale left out is predicted {hold_out.error_octaves:+.2f} octaves off, {cost}")
    return "; ".join(said)


_SHAPE = ("width", "depth", "tokens", "batch_tokens")
_SIZE = (*PARAMS, "tokens", "batch_tokens")


def _law(name: str, inputs: Sequence[str], form: str, source: str) -> Law:
    exponents = {x: Parameter(meaning=f"exponent in {x}", typical=0.0, positive=False) for x in inputs}
    at = Parameter(meaning="log2 of the best lr at the reference", typical=-8.0, positive=False)
    return Law(
        name=name, inputs=tuple(inputs), output="lr", parameters={"log2_lr": at, **exponents}, form=form, source=source,
        value=_value,
    )  # fmt: skip


POWER = _law(
    "power",
    _SHAPE,
    "lr = 2^log2_lr · Π (x/x0)^p",
    "power laws in width follow from muP (arXiv:2203.03466); in tokens, Bjorck et al. (arXiv:2409.19913)",
)
POWER_PARAMS = _law(
    "power_params",
    _SIZE,
    "lr = 2^log2_lr · (N/N0)^p · (D/D0)^q",
    "Step Law (arXiv:2503.04715), whose N is non-embedding parameters; Bjorck et al. (arXiv:2409.19913)",
)
CONSTANT = _law(
    "constant",
    (*SCALES, "batch_tokens"),
    "lr = 2^log2_lr · Π (x/x0)^p with every p fixed by theory, 0 where it names none",
    "muP: the base LR does not move with width (arXiv:2203.03466)",
)

# The laws that are regressed on optima, each with how: these know intervals and bounds, not single runs.
TWO_STAGE: dict[str, tuple[Law, Callable[[Evidence], Fit]]] = {
    "power": (POWER, functools.partial(_fit, POWER)),
    "power_params": (POWER_PARAMS, functools.partial(_fit, POWER_PARAMS)),
    "constant": (CONSTANT, _fit_constant),
}
