"""Which form of the loss law? Judged where it matters: on sizes that it has not seen, and on the largest of them.

AICc ranks forms by the runs that they were fitted to. Grouped cross-validation leaves out one size at a time, so that a
form is judged between and beyond sizes; the largest size left out judges the extrapolation. Forms that the runs cannot
tell apart are averaged for the target, by weights that grow with how well each predicted the sizes left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scalelab.errors import Refused
from scalelab.laws.fitted import Fit, Prediction
from scalelab.laws.forms import LAWS
from scalelab.laws.law import Array
from scalelab.laws.observations import Observations
from scalelab.laws.solve.fit import Point, aicc, point
from scalelab.laws.solve.objective import Objective
from scalelab.laws.solve.refit import refit

MOST_ROWS = 2000
FOLDS = 8  # sizes left out one at a time; more are left out in groups of neighbours
LEAST_PERCENT = 1e-3  # of an error in cross-validation: below it forms are equally exact


@dataclass(frozen=True, kw_only=True)
class FormScore:
    """One form: `parameters`, AICc above the best's, the root mean square error in per cent of the loss on sizes left
    out (`cv_percent`) and the mean error at the largest (`hold_out_percent`, signed: positive is predicted too high);
    None where too few runs were left to fit it. `weight` is its share in the average."""

    law: str
    parameters: int
    aicc: float
    cv_percent: float | None
    hold_out_percent: float | None
    weight: float


def compare_forms(seen: Mapping[str, Observations]) -> tuple[FormScore, ...]:
    """Score the laws on the observations that each is given, the best first."""
    seen = {name: _thinned(rows) for name, rows in seen.items()}
    points = {name: point(LAWS[name], rows) for name, rows in seen.items()}
    # One threshold for all, the finest that any form's residuals ask for: criteria under several cannot be compared.
    common = Objective(delta=min(at.problem.objective.delta for at in points.values()))
    found: dict[str, tuple[float, float | None, float | None]] = {}
    for name, rows in seen.items():
        whole = point(LAWS[name], rows, common, near=points[name].found.theta_P)
        if any(np.isclose(aicc(whole), value, rtol=0, atol=1e-4) for value, _, _ in found.values()):
            continue  # the same form under another name
        found[name] = (aicc(whole), *_left_out(rows, whole))
    lowest = min(value for value, _, _ in found.values())
    weights = _weights(
        {name: cv for name, (_, cv, _) in found.items()}, {n: v - lowest for n, (v, _, _) in found.items()}
    )
    scores = [
        FormScore(
            law=name, parameters=len(LAWS[name].parameters), aicc=value - lowest, cv_percent=cv, hold_out_percent=held,
            weight=weights[name],
        )
        for name, (value, cv, held) in found.items()
    ]  # fmt: skip
    return tuple(sorted(scores, key=lambda score: (-score.weight, score.aicc)))


def averaged(fits: Sequence[Fit], scores: Sequence[FormScore], **inputs: float) -> Prediction:
    """The average of several fits at a scale, with an interval that holds the disagreement between them.

    Raises:
        Refused: where none of the fits has a score.
    """
    weight = {score.law: score.weight for score in scores}
    used = [(fit, weight[fit.law.name]) for fit in fits if weight.get(fit.law.name, 0.0) > 0]
    if not used:
        raise Refused("no fit to average: none of these laws was scored")
    total = sum(share for _, share in used)
    draws: list[Array] = []
    point_value, outside = 0.0, dict[str, float]()
    for fit, share in used:
        known = {name: value for name, value in inputs.items() if name in {*fit.domain, *fit.columns.values()}}
        prediction = fit.predict(**known)
        point_value += share / total * prediction.value
        outside |= prediction.outside
        by_column = {column: x for x, column in fit.columns.items()}
        at = {by_column.get(name, name): np.array(value) for name, value in known.items()}
        drawn = fit.drawn({x: at[x] / x0 for x, x0 in fit.reference.items()})
        draws.append(np.resize(drawn, max(1, round(share / total * 1000))))
    low, high = np.percentile(np.concatenate(draws), [2.5, 97.5])
    return Prediction(value=point_value, low=float(low), high=float(high), outside=outside)


def _thinned(rows: Observations) -> Observations:
    """Every so many-th row of a long table: forms are told apart by far fewer."""
    every = -(-len(rows) // MOST_ROWS)
    if every == 1:
        return rows
    inputs = {name: values[::every] for name, values in rows.inputs.items()}
    cluster_N = np.unique(rows.cluster_N[::every], return_inverse=True)[1]
    return replace(rows, inputs=inputs, output_N=rows.output_N[::every], cluster_N=cluster_N)


def _left_out(rows: Observations, whole: Point) -> tuple[float | None, float | None]:
    """Errors in per cent on sizes left out, root mean square, and at the largest, mean; None where the rest is too few.

    A size left out is a problem in which its rows weigh nothing, so that all of them are one batch that starts at the
    optimum of the whole.
    """
    size_N = _size(rows)
    sizes = np.unique(size_N)
    folds = np.array_split(sizes, min(FOLDS, len(sizes)))
    out_FN = np.stack([np.isin(size_N, fold) for fold in (*folds, sizes[-1:])])
    law, theta_P = whole.problem.law, whole.found.theta_P
    enough_F = [len(np.unique(rows.cluster_N[~out_N])) > len(law.parameters) for out_N in out_FN]
    solved = refit(
        whole.problem, theta_P, np.repeat(theta_P[None], len(out_FN), axis=0), objective=whole.problem.objective,
        weight_RN=np.where(out_FN, 0.0, 1.0), tolerance=1e-8,
    )  # fmt: skip
    error_FN = np.expm1(whole.problem.residuals(solved.theta_RP)[0])
    among = np.concatenate([error_N[out_N] for error_N, out_N in zip(error_FN[:-1], out_FN[:-1], strict=True)])
    cv = float(100 * np.sqrt((among**2).mean())) if all(enough_F[:-1]) and np.isfinite(among).all() else None
    return cv, float(100 * error_FN[-1][out_FN[-1]].mean()) if enough_F[-1] else None


def _size(rows: Observations) -> Array:
    """What counts as size: parameters, or the law's first input; rounded, so that one size is one number."""
    values = rows.inputs.get("params", next(iter(rows.inputs.values())))
    return np.asarray(np.round(np.log2(values), 3))


def _weights(cv: Mapping[str, float | None], above: Mapping[str, float]) -> dict[str, float]:
    """Shares by inverse squared error on sizes left out; by AICc where no form could be cross-validated."""
    if any(value is not None for value in cv.values()):
        raw = {name: 0.0 if value is None else max(value, LEAST_PERCENT) ** -2.0 for name, value in cv.items()}
    else:
        raw = {name: float(np.exp(-0.5 * value)) for name, value in above.items()}
    total = sum(raw.values())
    return {name: value / total for name, value in raw.items()}
