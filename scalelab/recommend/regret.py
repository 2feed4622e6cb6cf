"""What a setting is expected to lose, in the worlds of a belief; and the setting that is expected to lose least."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from scalelab.laws import GroupLaws
from scalelab.laws.columns import PARAMS
from scalelab.laws.fitted import Fit
from scalelab.recipe import Regret
from scalelab.recommend.belief import Belief

AROUND = (0.5, 2.0)
STEP = 0.05  # of ln compute, to either side, for the loss law's slope
# What grows with compute, each with its power.
WAYS: dict[str, dict[str, float]] = {
    "tokens": {"tokens": 1.0, "cost_flops": 1.0},
    "parameters": {"width": 0.5, "cost_flops": 1.0, **dict.fromkeys(PARAMS, 1.0)},
}


@dataclass(frozen=True, kw_only=True)
class Level:
    """The loss at the target in nats, and by how much an e-fold of compute would lower it (None where no law says).

    `rests_on` says where both come from.
    """

    nats: float
    slope_nats: float | None
    rests_on: str


def level(group: GroupLaws, inputs: Mapping[str, float]) -> Level:
    """The loss at the target by the laws of the loss, else that of the largest proxy.

    `inputs` are the target's scales and its `cost_flops`. Compute is spent where it lowers the loss most: on tokens, or
    on parameters, which go like width².
    """
    weights = {score.law: score.weight for score in group.loss_scores}
    known = [
        (fit, weights.get(name, 0.0 if weights else 1.0))
        for name, fit in group.loss_fits.items()
        if _given(fit, inputs) is not None
    ]
    used = [(fit, weight) for fit, weight in known if weight > 0]
    if not used:
        none = "no law of the loss was fitted" if not group.loss_fits else "no law of the loss has its inputs here"
        return Level(nats=_largest_loss(group), slope_nats=None, rests_on=f"the largest proxy's loss: {none}")
    slopes = {}
    for name, powers in WAYS.items():
        up, down = (_loss(used, {x: v * math.exp(s * powers.get(x, 0.0)) for x, v in inputs.items()})
                    for s in (STEP, -STEP))  # fmt: skip
        slopes[name] = (down - up) / (2 * STEP)
    best = max(slopes, key=lambda name: slopes[name])
    laws = ", ".join(fit.law.name for fit, _ in used)
    if slopes[best] <= 0:
        return Level(
            nats=_loss(used, inputs), slope_nats=None, rests_on=f"{laws}, by which no compute lowers the loss here"
        )
    return Level(nats=_loss(used, inputs), slope_nats=slopes[best], rests_on=f"{laws}; compute spent on {best}")


def _loss(used: Sequence[tuple[Fit, float]], inputs: Mapping[str, float]) -> float:
    total = sum(weight for _, weight in used)
    return sum(weight / total * fit.predict(**(_given(fit, inputs) or {})).value for fit, weight in used)


def _given(fit: Fit, inputs: Mapping[str, float]) -> dict[str, float] | None:
    """A loss law's inputs at the target; None where it has one that a target does not state."""
    params = inputs.get(fit.columns.get("params", "params_non_embedding"), math.nan)
    known = {**inputs, "params": params, "tokens_per_param": inputs["tokens"] / params}
    found = {name: known.get(name, math.nan) for name in fit.reference}
    return None if any(math.isnan(value) for value in found.values()) else found


def _largest_loss(group: GroupLaws) -> float:
    seen = [o for o in group.optima if o.loss_nats is not None]
    largest = max(seen, key=lambda o: (o.scale.get("params_non_embedding", 0.0), o.scale.get("tokens", 0.0)))
    assert largest.loss_nats is not None
    return largest.loss_nats


def safest(belief: Belief, name: str, logs: Mapping[str, float]) -> float:
    """ln of the setting that is expected to lose least, the others as in `logs`; the median where no valley is known.

    Where too much costs more than too little, it lies below the middle of what may be best, the more so the less is
    known. A learning rate never lies above it: what ends a run costs more than any valley says.
    """
    fixed = {key: np.array([value]) for key, value in logs.items() if key != name}
    best_D = belief.best(name, fixed)[:, 0]
    if name not in belief.valleys:
        return float(np.median(best_D))
    low, high = np.quantile(best_D, [0.01, 0.5 if name == "lr" else 0.99])

    def expected(log: float) -> float:
        return float(belief.excess({**fixed, name: np.array([log])}).mean())

    grid = np.linspace(low, high, 41)
    coarse = [expected(x) for x in grid]
    place = int(np.argmin(coarse))
    ends = grid[max(place - 1, 0)], grid[min(place + 1, len(grid) - 1)]
    found = minimize_scalar(expected, bounds=ends, method="bounded", options={"xatol": 1e-4})
    return float(found.x if found.fun <= coarse[place] else grid[place])


def regrets(belief: Belief, logs: Mapping[str, float], at: Level) -> tuple[Regret, ...]:
    """The recommended setting, and half and double of each value whose valley a law knows, all else held.

    Half the weight decay is twice τ; half the learning rate is twice τ as well, as weight decay is then held.
    """
    if not belief.valleys:
        return ()
    found = [_regret("recommended", 1.0, belief, logs, at)]
    for name, moved in (("lr", {"lr": 1.0, "tau": -1.0}), ("batch_tokens", {"batch_tokens": 1.0, "tau": 1.0}),
                        ("weight_decay", {"tau": -1.0})):  # fmt: skip
        if ("tau" if name == "weight_decay" else name) in belief.valleys:
            for factor in AROUND:
                off = {key: value + moved.get(key, 0.0) * math.log(factor) for key, value in logs.items()}
                found.append(_regret(name, factor, belief, off, at))
    return tuple(found)


def _regret(setting: str, factor: float, belief: Belief, logs: Mapping[str, float], at: Level) -> Regret:
    share_D = belief.excess({name: np.array([value]) for name, value in logs.items()})[:, 0]
    mean = float(share_D.mean())
    return Regret(
        setting=setting, factor=factor, nats=mean * at.nats, high=float(np.quantile(share_D, 0.95)) * at.nats,
        loss_percent=100 * mean,
        compute_percent=None if at.slope_nats is None else 100 * math.expm1(min(mean * at.nats / at.slope_nats, 50.0)),
    )  # fmt: skip
