"""Observations → a fit: the best parameters, three kinds of interval, and what the data leave open."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scalelab.laws.fitted import Estimate, Fit, Search, ranges, stored
from scalelab.laws.law import Array, Law
from scalelab.laws.observations import Observations
from scalelab.laws.solve.bootstrap import around, bootstrap, simulated
from scalelab.laws.solve.covariance import Covariance, covariance
from scalelab.laws.solve.objective import CHINCHILLA, NORMAL_MAD, Objective
from scalelab.laws.solve.optimum import REACHED, Best, best
from scalelab.laws.solve.problem import Problem
from scalelab.laws.solve.profile import Profile, profile

ENOUGH = 6  # clusters a parameter: with fewer, resamples have no optimum of their own and the profile says it better
MANY = 20_000  # rows beyond which resamples would take minutes and tell nothing that the delta method does not
FEW_REACHED = 0.25  # share of the starts that were followed
ILL = 1e10  # condition number of the correlation beyond which signs of single parameters mean nothing
SMALLEST_SCATTER = 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class Point:
    """A law at its optimum over observations, before any statement of certainty."""

    problem: Problem
    found: Best
    residual_N: Array


def point(law: Law, seen: Observations, objective: Objective | None = None, near: Array | None = None) -> Point:
    """The best parameters. Without an objective, Huber's with δ at 1.345 standard deviations of the residuals."""
    first = Problem(law=law, inputs=seen.inputs, output_N=seen.output_N, objective=objective or CHINCHILLA)
    found = best(first, near=near)
    if objective is None:
        scaled = first.objective.scaled(first.residuals(found.theta_P[None])[0][0], parameters=len(law.parameters))
        first = replace(first, objective=scaled)
        again = best(first, near=found.theta_P)
        found = replace(again, starts=found.starts, followed=found.followed, reached=found.reached)
    return Point(problem=first, found=found, residual_N=first.residuals(found.theta_P[None])[0][0])


def fit_observations(
    law: Law,
    seen: Observations,
    *,
    objective: Objective | None = None,
    draws: int = 1000,
    rng: np.random.Generator,
    warnings: Sequence[str] = (),
) -> Fit:
    """Fit a law, with bootstrap, profile and delta intervals of every parameter.

    Raises:
        Refused: with too few clusters, or where the law has no value at these inputs.
    """
    at = point(law, seen, objective)
    clusters = int(seen.cluster_N.max()) + 1
    spread = covariance(at.problem, at.found.theta_P, seen.cluster_N)
    traced = profile(at.problem, at.found.theta_P, at.found.value, spread, clusters=clusters)
    if traced.better_P is not None:  # a profile that finds a lower point has found a better optimum
        better = best(at.problem, near=traced.better_P)
        reached = at.found.reached if at.found.value <= better.value * (1 + REACHED) else 0
        better = replace(better, starts=at.found.starts, followed=at.found.followed, reached=reached)
        residual_N = at.problem.residuals(better.theta_P[None])[0][0]
        at = replace(at, found=better, residual_N=residual_N)
        spread = covariance(at.problem, at.found.theta_P, seen.cluster_N)
        traced = profile(at.problem, at.found.theta_P, at.found.value, spread, clusters=clusters)
    p = len(law.parameters)
    scatter = _scatter(at, p, clusters)
    enough = clusters >= ENOUGH * p
    many = len(seen) > MANY
    if many:
        resampled = around(at.found.theta_P, spread.matrix_PP, draws=draws, rng=rng)
    elif enough:
        resampled = bootstrap(at.problem, at.found.theta_P, seen.cluster_N, draws=draws, rng=rng)
    else:
        error = scatter * np.log(2) * (1.0 if at.problem.objective.space == "log" else float(seen.output_N.mean()))
        resampled = simulated(at.problem, at.found.theta_P, seen.cluster_N, error, draws=draws, rng=rng)
    drawn = {name: column[:, 0] for name, column in at.problem.parameters(resampled.theta_DP).items()}
    estimates = _estimates(at, spread, traced, resampled.theta_DP, enough and not many)
    noise_D = scatter * rng.standard_t(clusters - p, len(resampled.theta_DP))
    search = Search(
        starts=at.found.starts, followed=at.found.followed, reached=at.found.reached, condition=spread.condition,
        objective=_words(at.problem.objective), value=at.found.value, clusters=clusters, unit=seen.unit, aicc=aicc(at),
        r2=_r2(at),
    )  # fmt: skip
    said = [*warnings, *_warnings(law, estimates, search, spread)]
    if many:
        said.append(f"{len(seen):,} rows are too many to refit {draws} times: draws are the delta method's")
    elif not enough:
        said.append(f"{clusters} {seen.unit}s for {p} parameters are too few to resample: they are simulated")
    if resampled.failed > 0.02 * draws:
        said.append(f"{resampled.failed} of {draws} resamples had no optimum and were left out")
    return Fit(
        law=law,
        estimates=estimates,
        reference=dict.fromkeys(law.inputs, 1.0),
        domain=ranges([{name: float(v[n]) for name, v in seen.inputs.items()} for n in range(len(seen))]),
        residuals=tuple(float(r) for r in -at.residual_N / np.log(2)),
        scatter=scatter,
        n=len(seen),
        hold_out=None,
        status=_status(seen, search, scatter),
        draws=stored({**drawn, "scatter": noise_D}),
        columns=seen.columns,
        search=search,
        warnings=tuple(said),
    )


def aicc(at: Point) -> float:
    """Akaike's criterion, corrected for few runs, up to a constant that all laws on the same runs share.

    Robust residuals enter by the objective: n ln(2 Σρ/n), which is n ln(mean r²) for least squares.
    """
    n, k = len(at.residual_N), len(at.found.theta_P) + 1
    squared = float(np.log(max(2 * at.found.value / n, 1e-300)))
    return n * squared + 2 * k + 2 * k * (k + 1) / max(n - k - 1, 0.5)


def _scatter(at: Point, parameters: int, clusters: int) -> float:
    """Standard deviation of a run from the law, in octaves; residuals count as three robust deviations at most.

    The parameters have taken their share of what each cluster errs by as a whole, which is most of it.
    """
    size_N = np.abs(at.residual_N if at.problem.objective.space == "log" else at.residual_N / at.problem.output_N)
    lost = clusters / max(clusters - parameters, 1)
    most = 3 * NORMAL_MAD * float(np.median(size_N)) * np.sqrt(lost)
    spread = np.sqrt(lost * float((np.minimum(size_N, most) ** 2).mean()))
    return float(max(spread / np.log(2), SMALLEST_SCATTER))


def _r2(at: Point) -> float:
    """Share of the output's variance that the law explains, in the units of the output."""
    observed_N = at.problem.output_N
    predicted_N = (
        observed_N * np.exp(at.residual_N) if at.problem.objective.space == "log" else observed_N + at.residual_N
    )
    return float(
        1 - ((observed_N - predicted_N) ** 2).sum() / max(((observed_N - observed_N.mean()) ** 2).sum(), 1e-300)
    )


def _estimates(at: Point, spread: Covariance, traced: Profile, theta_DP: Array, resampled: bool) -> dict[str, Estimate]:
    found = {}
    low_P, inner_low, inner_high, high_P = np.percentile(theta_DP, [2.5, 15.87, 84.13, 97.5], axis=0)
    sd_P = np.minimum(spread.sd_P, 300.0)
    for k, name in enumerate(at.problem.names):
        positive = bool(at.problem.positive_P[k])
        centre, sd = float(at.found.theta_P[k]), float(sd_P[k])
        traced_pair = _parameter(traced.low_P[k], positive), _parameter(traced.high_P[k], positive)
        drawn_pair = _parameter(low_P[k], positive), _parameter(high_P[k], positive)
        found[name] = Estimate(
            value=_parameter(centre, positive),
            # The wider of the two: each alone covers a little less than it says, and a side that the profile leaves
            # open is open, whatever resamples say, which only move a point about.
            low=min(traced_pair[0], drawn_pair[0]),
            high=max(traced_pair[1], drawn_pair[1]),
            sd=(_parameter(inner_high[k], positive) - _parameter(inner_low[k], positive)) / 2,
            bootstrap=drawn_pair if resampled else None,
            profile=traced_pair,
            delta=(_parameter(centre - 1.96 * sd, positive), _parameter(centre + 1.96 * sd, positive)),
        )
    return found


def _parameter(coordinate: float, positive: bool) -> float:
    """A fitted coordinate as the parameter it stands for."""
    with np.errstate(over="ignore"):
        return float(np.exp(coordinate)) if positive else float(coordinate)


def _warnings(law: Law, estimates: dict[str, Estimate], search: Search, spread: Covariance) -> list[str]:
    said = []
    for name, e in estimates.items():
        lowest = 0.0 if law.parameters[name].positive else -np.inf
        if e.low == lowest and e.high == np.inf:
            said.append(f"{name} is not determined by these runs: any value fits")
        elif e.high == np.inf:
            said.append(f"{name} is not bounded above: any value from {e.low:.3g} up fits")
        elif e.low == lowest:
            said.append(f"{name} is not bounded below: any value up to {e.high:.3g} fits")
        elif e.disagreeing and e.bootstrap is not None and e.profile is not None:
            (a, b), (c, d) = e.bootstrap, e.profile
            said.append(
                f"bootstrap and profile disagree on {name}: [{a:.4g}, {b:.4g}] and [{c:.4g}, {d:.4g}]; trust the wider"
            )
    if search.followed and search.reached < FEW_REACHED * search.followed:
        said.append(f"{search.reached} of {search.followed} starts reached the best optimum: there may be a better one")
    if spread.flat or search.condition > ILL:
        said.append("the parameters are nearly interchangeable: trust predictions inside the domain, not coefficients")
    return said


def _status(seen: Observations, search: Search, scatter: float) -> str:
    of = f" of {search.clusters} {search.unit}s" if search.clusters < len(seen) else ""
    rows = f"{len(seen)} observations{of}"
    percent = 100 * (2**scatter - 1)
    return (
        f"{rows}; {search.objective}; {search.reached} of {search.followed} followed starts (of {search.starts}"
        f" screened) reached the best; residuals {percent:.2g} %; R² {search.r2:.4f}"
    )


def _words(objective: Objective) -> str:
    where = "log" if objective.space == "log" else "linear"
    if not np.isfinite(objective.delta):
        return f"least squares in {where}"
    return f"Huber δ {objective.delta:.3g} in {where}"
