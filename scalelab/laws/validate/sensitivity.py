"""What the projection owes to choices that the data did not make: each varied in turn, and the spread that results.

A projection that moves by more than its interval when a threshold is doubled rests on the threshold.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from scalelab.errors import Refused
from scalelab.laws.columns import PARAMS
from scalelab.laws.fitted import Fit
from scalelab.laws.joint.fit import fit_joint
from scalelab.laws.joint.priors import USUAL
from scalelab.laws.joint.result import Joint, sized
from scalelab.laws.observations import Observations
from scalelab.laws.solve.fit import point
from scalelab.laws.solve.objective import CHINCHILLA, LEAST_SQUARES, Objective

FARTHER = 10.0  # times the largest scale: where projections are compared, if no target is given
OUTLIERS = 5  # highest losses left out, as arXiv:2404.10102 does with Hoffmann's runs


@dataclass(frozen=True, kw_only=True)
class Variation:
    """One choice varied: the projected values with it, by output ("lr", "batch_tokens", "loss_nats")."""

    choice: str
    projected: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Card:
    """Projections at `target`: the first variation is the fit as it stands; `spread` is, by output, the largest ratio
    between any two of them."""

    target: dict[str, float]
    variations: tuple[Variation, ...]
    spread: dict[str, float]


def farther(domain: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """A scale ten times the largest in size and tokens, in what varied; what did not vary stays."""
    grown = {name for name in (*PARAMS, "tokens") if name in domain and domain[name][0] < domain[name][1]}
    at = {name: high * (FARTHER if name in grown else 1.0) for name, (_, high) in domain.items()}
    if "width" in domain and domain["width"][0] < domain["width"][1]:  # parameters go like width²
        at["width"] *= FARTHER**0.5
    return at


def joint_card(runs: pd.DataFrame, joint: Joint, target: Mapping[str, float], *, rng: np.random.Generator) -> Card:
    """The projected setting under other windows, outlier rules and priors, and without the smallest scale."""
    known = {name: value for name, value in target.items() if name in joint.domain and name != "batch_tokens"}

    def projected(found: Joint) -> dict[str, float]:
        return {name: value.value for name, value in found.predict(**known).values.items()}

    ways: dict[str, Callable[[], Joint]] = {
        "trusted window 1 %": lambda: _again(runs, rng, joint, trusted=0.01),
        "trusted window 4 %": lambda: _again(runs, rng, joint, trusted=0.04),
        "outliers pull with force from 1.5 sd": lambda: _again(runs, rng, joint, outlier=1.5),
        "no outlier rule": lambda: _again(runs, rng, joint, outlier=1e9),
        "priors twice as wide": lambda: _again(runs, rng, joint, prior_width=2.0),
        "priors half as wide": lambda: _again(runs, rng, joint, prior_width=0.5),
        "without the smallest scale": lambda: _again(_without_smallest(runs, joint), rng, joint),
    }
    variations = [Variation(choice="as fitted", projected=projected(joint))]
    for choice, refit in ways.items():
        try:
            variations.append(Variation(choice=choice, projected=projected(refit())))
        except Refused:  # one scale would be left
            continue
    return _card(known, variations)


def loss_card(fit: Fit, seen: Observations, target: Mapping[str, float]) -> Card:
    """The projected loss under other thresholds, without the smallest scale and without the highest losses."""
    by_input = {x: target.get(fit.columns.get(x, x), target.get(x)) for x in fit.law.inputs}
    if missing := [x for x, value in by_input.items() if value is None]:
        raise Refused(f"{fit.law.name} needs {', '.join(missing)} at the target")
    at = {x: float(value) for x, value in by_input.items() if value is not None}
    variations = [Variation(choice="as fitted", projected={fit.law.output: fit.predict(**at).value})]
    for choice, part, objective in _loss_ways(seen):
        if len(part) <= len(fit.law.parameters):
            continue
        found = point(fit.law, part, objective)
        values = found.problem.parameters(found.found.theta_P[None])
        value = float(np.squeeze(fit.law.value({name: v[0, 0] for name, v in values.items()}, at)))
        variations.append(Variation(choice=choice, projected={fit.law.output: value}))
    return _card(at, variations)


def _loss_ways(seen: Observations) -> Iterator[tuple[str, Observations, Objective | None]]:
    yield "Huber δ 1e-3", seen, CHINCHILLA
    yield "Huber δ 1e-2", seen, Objective(delta=1e-2)
    yield "least squares", seen, LEAST_SQUARES
    size_N = next(iter(seen.inputs.values()))
    yield "without the smallest scale", _part(seen, size_N > size_N.min() * 1.001), None
    rank_N = np.argsort(np.argsort(-seen.output_N, kind="stable"))
    yield f"without the {OUTLIERS} highest losses", _part(seen, rank_N >= OUTLIERS), None


def _part(seen: Observations, kept_N: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> Observations:
    clusters = np.unique(seen.cluster_N[kept_N], return_inverse=True)[1]
    inputs = {name: values[kept_N] for name, values in seen.inputs.items()}
    return replace(seen, inputs=inputs, output_N=seen.output_N[kept_N], cluster_N=clusters)


def _again(runs: pd.DataFrame, rng: np.random.Generator, joint: Joint, **assumed: float) -> Joint:
    return fit_joint(
        runs, draws=100, rng=rng, profiles=False, assumed=replace(USUAL, **assumed), near=joint, sized=sized(joint)
    )


def _without_smallest(runs: pd.DataFrame, joint: Joint) -> pd.DataFrame:
    name = next(n for n, (low, high) in joint.domain.items() if low < high and n != "batch_tokens")
    return runs[~np.isclose(runs[name], joint.domain[name][0])]


def _card(target: Mapping[str, float], variations: list[Variation]) -> Card:
    outputs = variations[0].projected
    spread = {}
    for output in outputs:
        values = [v.projected[output] for v in variations if output in v.projected]
        spread[output] = max(values) / min(values) if min(values) > 0 else float("inf")
    return Card(target=dict(target), variations=tuple(variations), spread=spread)
