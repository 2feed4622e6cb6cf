"""What a user may do to our samplers by mistake or of need: whether they go on, and within the space."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from scalelab.errors import Refused
from search.problem import BY_TOKENS, Params, Problem, flops_of, gaussian, log_space
from search.report import table
from search.samplers import SAMPLERS

OURS = ("carbs", "law")
SCALE = log_space(N=(1e7, 1e9), D=(2e8, 2e10))
LR = log_space(lr=(1e-5, 1e-1))
USUAL = {**LR, **log_space(batch=(1.6e4, 4e6)), **SCALE}
TRIALS = 16


@dataclass(frozen=True, kw_only=True)
class Case:
    """`ends` is what the n-th trial of a loss ends with; `known` runs are in the study before."""

    space: Mapping[str, BaseDistribution]
    ends: Callable[[int, float], float] = lambda n, loss: loss
    known: int = 0
    trials: int = TRIALS


def now_and_then(value: float) -> Callable[[int, float], float]:
    return lambda n, loss: value if n % 3 == 1 else loss


CASES = {
    "every third NaN": Case(space=USUAL, ends=now_and_then(math.nan)),
    "every third infinite": Case(space=USUAL, ends=now_and_then(math.inf)),
    "every third minus infinite": Case(space=USUAL, ends=now_and_then(-math.inf)),
    "the first ten diverged": Case(space=USUAL, ends=lambda n, loss: math.inf if n < 10 else loss),
    "all failed (NaN)": Case(space=USUAL, ends=lambda n, loss: math.nan),
    "all diverged": Case(space=USUAL, ends=lambda n, loss: math.inf),
    "constant loss": Case(space=USUAL, ends=lambda n, loss: 1.0),
    "loss of 1e12": Case(space=USUAL, ends=lambda n, loss: 1e12 * loss),
    "negative loss": Case(space=USUAL, ends=lambda n, loss: loss - 10),
    "one coordinate": Case(space=LR),
    "one coordinate and scale": Case(space={**LR, **SCALE}),
    "20 coordinates": Case(space={**log_space(**{f"x{k}": (1e-3, 1.0) for k in range(17)}), **LR, **SCALE}),
    "choices only": Case(space={name: CategoricalDistribution(("a", "b", "c")) for name in ("one", "two")}),
    "choices and scale": Case(space={"schedule": CategoricalDistribution(("a", "b", "c")), **SCALE}),
    "integers and steps": Case(
        space={**USUAL, "layers": IntDistribution(2, 24), "dropout": FloatDistribution(0.0, 0.3, step=0.1)}
    ),
    "a coordinate of one value": Case(space={**USUAL, "beta": FloatDistribution(0.9, 0.9)}),
    "10,000 runs": Case(space=USUAL, known=10_000, trials=3),
}


def drawn(each: BaseDistribution, rng: np.random.Generator) -> object:
    """A value of a distribution."""
    if isinstance(each, CategoricalDistribution):
        return each.choices[int(rng.integers(len(each.choices)))]
    assert isinstance(each, FloatDistribution | IntDistribution)
    low, high = float(each.low), float(each.high)
    value = math.exp(rng.uniform(math.log(low), math.log(high))) if each.log else rng.uniform(low, high)
    if each.step is not None:
        value = low + each.step * round((value - low) / each.step)
    return int(value) if isinstance(each, IntDistribution) else min(value, high)


def problem(space: Mapping[str, BaseDistribution]) -> Problem:
    """A bowl of every range, on a floor that falls with scale where there is one."""
    scales = tuple(name for name in SCALE if name in space)

    def away(params: Params) -> float:
        total = 0.0
        for name, each in space.items():
            if name not in scales and isinstance(each, FloatDistribution) and each.log:
                total += math.log(params[name] / math.sqrt(each.low * each.high)) ** 2
            elif isinstance(each, CategoricalDistribution):
                total += each.choices.index(params[name])
        return 0.02 * total

    def truth(params: Params) -> float:
        return 1.7 + (400 / params["N"] ** 0.34 + 400 / params["D"] ** 0.28 if scales else 1.0) + away(params)

    rng = np.random.default_rng(0)
    return Problem(
        name="robustness",
        space=space,
        start={name: drawn(each, rng) for name, each in space.items()},
        scales=scales,
        target={"N": 1e9, "D": 2e10} if scales else {},
        sizes=BY_TOKENS if scales else {},
        cost_flops=flops_of if scales else lambda params: 1.0,
        truth=truth,
        noise=gaussian(0.003),
        best_nats=1.0,
    )


def outcome(sampler: str, case: Case) -> str:
    """ "pass", or what went wrong first; a refusal in one line counts as an answer."""
    posed, rng = problem(case.space), np.random.default_rng(1)
    began = time.perf_counter()
    try:
        search = SAMPLERS[sampler](posed, 0, case.trials)
        for n in range(case.known):
            params = {name: drawn(each, rng) for name, each in case.space.items()}
            search.learn(params, case.ends(n, posed.observed(params, rng)), posed.cost_flops(params))
        for n in range(case.trials):
            handle, params = search.ask()
            if outside := [name for name, each in case.space.items() if not inside(each, params[name])]:
                return f"FAIL: {', '.join(outside)} outside the space"
            search.tell(handle, case.ends(n, posed.observed(params, rng)), posed.cost_flops(params))
        advice = search.recommend() or {}
        if outside := [name for name in advice if name in case.space and not inside(case.space[name], advice[name])]:
            return f"FAIL: recommends {', '.join(outside)} outside the space"
    except Refused as error:
        return f"refused: {error}"
    except Exception as error:  # whatever it is, it is what this table is to show
        return f"FAIL: {type(error).__name__}: {error}".splitlines()[0]
    return f"pass, {time.perf_counter() - began:.1f} s"


def inside(each: BaseDistribution, value: Any) -> bool:
    if isinstance(each, CategoricalDistribution):
        return value in each.choices
    assert isinstance(each, FloatDistribution | IntDistribution)
    return bool(each.low <= value <= each.high)


def robustness() -> str:
    """The table of cases by samplers."""
    return table(["", *OURS], [[name, *(outcome(sampler, case) for sampler in OURS)] for name, case in CASES.items()])
