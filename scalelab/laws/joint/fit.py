"""A group's checked runs → the joint fit with its intervals: posterior, cells resampled, profile."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats
from threadpoolctl import threadpool_limits

from scalelab.laws.fitted import Estimate, ranges, stored
from scalelab.laws.joint import priors
from scalelab.laws.joint.build import build
from scalelab.laws.joint.by_cell import cells
from scalelab.laws.joint.levels import level_law
from scalelab.laws.joint.maximum import Solved, Start, solve
from scalelab.laws.joint.result import Joint
from scalelab.laws.joint.solve import Solver
from scalelab.laws.law import Array
from scalelab.laws.solve.bootstrap import stretch

PROFILE_SDS = (0.8, 1.5, 2.2, 3.2)  # of the posterior, to either side


def fit_joint(
    runs: pd.DataFrame,
    *,
    draws: int = 1000,
    rng: np.random.Generator,
    profiles: bool = True,
    assumed: priors.Assumptions = priors.USUAL,
    near: Joint | None = None,
    sized: bool | None = None,
) -> Joint:
    """Fit all of a group's runs in one likelihood.

    Args:
        runs: as `checked` leaves them, one parametrization, optimizer and data.
        draws: of the posterior.
        rng: of the draws.
        profiles: trace the exponents' profiles too, which takes most of the time.
        assumed: what a sensitivity card varies.
        near: a fit to much the same runs, to start from.
        sized: whether the law is to be in parameters or in width and depth, where runs state both; left out, in shape
            where a parametrization is stated.

    Raises:
        Refused: on one scale only, or where nothing was varied within a scale.
    """
    model, scales, reference = build(runs, sized=sized)
    start = None
    if near is not None and list(near.estimates) == model.names and near.reference == reference:
        start = Start(
            theta_P=np.array([e.value for e in near.estimates.values()]), noise=near.noise, misfit=near.misfit,
            scatter_Q=np.array([octaves * np.log(2) for octaves in near.scatter.values()]),
        )  # fmt: skip
    # Its small products are no faster on more threads of BLAS, and several times slower where other work has the cores.
    with threadpool_limits(limits=1, user_api="blas"):
        solved = solve(model, levels=level_law(scales), near=start, assumed=assumed)
        return _joint(solved, scales, reference, runs, draws=draws, rng=rng, profiles=profiles)


def degrees_of_freedom(solved: Solved) -> float:
    """Behind the scatter between cells: cells beyond the exponents of a centre, and what the prior counts for."""
    fitted = max(len(q.covariates) + 1 for q in solved.model.coordinates)
    return max(solved.model.cells - fitted, 0) + priors.SCATTER_DOF


def _joint(
    solved: Solved,
    scales: Sequence[Mapping[str, float]],
    reference: Mapping[str, float],
    runs: pd.DataFrame,
    *,
    draws: int,
    rng: np.random.Generator,
    profiles: bool,
) -> Joint:
    model, state, spread = solved.model, solved.state, solved.spread
    dof = degrees_of_freedom(solved)
    theta_DP = _posterior(state.theta_P, state.covariance_PP, dof, draws, rng)
    resampled_DP = _resampled(solved, draws, rng)
    prior = {name: (p.mean, p.sd) for name, p in zip(model.names, model.priors(), strict=True)}
    estimates = {}
    for k, name in enumerate(model.names):
        low, inner_low, inner_high, high = np.percentile(theta_DP[:, k], [2.5, 15.87, 84.13, 97.5])
        exponent = " ~ " in name and "curvature" not in name
        estimates[name] = Estimate(
            value=float(state.theta_P[k]), low=float(low), high=float(high), sd=float(inner_high - inner_low) / 2,
            bootstrap=None if resampled_DP is None else _pair(np.percentile(resampled_DP[:, k], [2.5, 97.5])),
            profile=_profiled(solved, k, dof) if profiles and exponent else None,
        )  # fmt: skip
    joint = Joint(
        estimates=estimates,
        priors=prior,
        coordinates={q.name: q.covariates for q in model.coordinates},
        reference=dict(reference),
        domain=ranges(scales) | ({"batch_tokens": _range(runs["batch_tokens"])} if "batch_tokens" in runs else {}),
        scatter={q.name: float(spread.effect_E[q.place]) / np.log(2) for q in model.coordinates},
        noise=spread.noise,
        misfit=spread.misfit,
        noise_source=_noise_source(runs),
        dof=dof,
        n_runs=len(runs),
        n_cells=model.cells,
        status="",
        warnings=model.notes,
        draws=stored({name: theta_DP[:, k] for k, name in enumerate(model.names)}),
        cells=tuple(cells(solved, scales, reference)),
    )
    return _stated(joint)


def _stated(joint: Joint) -> Joint:
    said = [
        f"the runs say next to nothing on {name}: its interval is the prior's; vary {name.split(' ~ ')[1]}"
        for name in joint.pinned_by_prior()
    ]
    said += [
        f"the posterior and resampled cells disagree on {name}: [{e.low:.3g}, {e.high:.3g}] and"
        f" [{e.bootstrap[0]:.3g}, {e.bootstrap[1]:.3g}]; some cells pull hard"
        for name, e in joint.estimates.items()
        if " ~ " in name and "curvature" not in name and e.bootstrap is not None
        and not (e.low <= sum(e.bootstrap) / 2 <= e.high)
    ]  # fmt: skip
    what = ", ".join(joint.coordinates)
    status = (
        f"{joint.n_runs} runs of {joint.n_cells} scales; valleys in {what}; noise {100 * joint.noise:.2g} % a run"
        f" ({joint.noise_source}), the valley's formula errs by {100 * joint.misfit:.2g} % of its height"
    )
    return replace(joint, status=status, warnings=(*joint.warnings, *said))


def _posterior(theta_P: Array, covariance_PP: Array, dof: float, draws: int, rng: np.random.Generator) -> Array:
    """Student-t draws around the maximum, with the curvature there."""
    root_PP = np.linalg.cholesky(covariance_PP + 1e-14 * np.eye(len(theta_P)))
    tails_D = np.sqrt(dof / rng.chisquare(dof, draws))
    return np.asarray(theta_P + tails_D[:, None] * (rng.standard_normal((draws, len(theta_P))) @ root_PP.T))


def _resampled(solved: Solved, draws: int, rng: np.random.Generator) -> Array | None:
    """Cells drawn with replacement, each resample one Newton step from the maximum; None with too few cells."""
    score_CP = solved.state.score_CP
    cells, fitted = len(score_CP), max(len(q.covariates) + 1 for q in solved.model.coordinates)
    if cells <= fitted + 1:
        return None
    counts_DC = rng.multinomial(cells, np.full(cells, 1 / cells), size=draws) - 1.0
    return np.asarray(
        solved.state.theta_P - stretch(cells, fitted) * (counts_DC @ score_CP) @ solved.state.covariance_PP
    )


def _profiled(solved: Solved, place: int, dof: float) -> tuple[float, float]:
    """Limits at which the log posterior has fallen by half the square of Student's quantile; infinite beyond 3.2 sd."""
    centre, sd = float(solved.state.theta_P[place]), float(np.sqrt(solved.state.covariance_PP[place, place]))
    limit = float(stats.t.ppf(0.975, dof))
    ends = []
    for side in (-1.0, 1.0):
        theta_P, effect_CE, before = solved.state.theta_P, solved.state.effect_CE, (0.0, 0.0)
        end = side * np.inf
        for step in PROFILE_SDS:
            at = centre + side * step * sd
            start_P = theta_P.copy()
            start_P[place] = at
            held = Solver(solved.model, solved.assumed, fixed={place: at})
            state = held.maximum(start_P, effect_CE, solved.spread, solved.weight_N, most=15)
            free = Solver(solved.model, solved.assumed)
            rise = free.value(state.theta_P, state.effect_CE, solved.spread, solved.weight_N) - solved.state.value
            root = float(np.sqrt(max(2 * rise, 0.0)))
            if root >= limit:
                share = (limit - before[1]) / (root - before[1])
                end = centre + side * sd * (before[0] + share * (step - before[0]))
                break
            theta_P, effect_CE, before = state.theta_P, state.effect_CE, (step, root)
        ends.append(float(end))
    return ends[0], ends[1]


def _pair(values: Array) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _range(values: "pd.Series[float]") -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _noise_source(runs: pd.DataFrame) -> str:
    same = [name for name in runs.columns if name not in ("run", "seed", "lr", "loss_nats", "outcome", "cost_flops")]
    replicated = runs[runs["outcome"] == "OK"].groupby(same)["seed"].nunique()
    return "from residuals and seed replicates" if (replicated > 1).any() else "from residuals: no seed was replicated"
