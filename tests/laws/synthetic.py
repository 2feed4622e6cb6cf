"""Synthetic runs whose law is known: losses by a law's own formula, and sweeps whose valleys have a known bottom."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scalelab.laws.checked import checked
from scalelab.laws.law import Array, Law
from scalelab.laws.observations import Observations
from scalelab.laws.solve.objective import LEAST_SQUARES, Objective
from scalelab.laws.solve.problem import Problem

CHECKPOINTS = 8


def typical(law: Law) -> dict[str, float]:
    """A plausible value of every parameter."""
    return {name: parameter.typical for name, parameter in law.parameters.items()}


def truth(law: Law, inputs: Mapping[str, Array | float]) -> Array:
    """The law's output at its typical parameters."""
    return np.asarray(law.value(typical(law), inputs), dtype=float)


def planned(law: Law, rng: np.random.Generator, n: int) -> dict[str, Array]:
    """Inputs of n runs, as somebody would plan them for the law."""
    assert law.design is not None
    return law.design(rng, n)


def seen(inputs: Mapping[str, Array], output_N: Array, cluster_N: Array | None = None) -> Observations:
    """Observations, each a run of its own unless clusters are given."""
    clusters = np.arange(len(output_N)) if cluster_N is None else cluster_N
    columns = {name: name for name in inputs}
    return Observations(inputs=inputs, output_N=output_N, cluster_N=clusters, unit="run", columns=columns)


def problem(law: Law, observed: Observations, objective: Objective = LEAST_SQUARES) -> Problem:
    return Problem(law=law, inputs=observed.inputs, output_N=observed.output_N, objective=objective)


def observed(law: Law, rng: np.random.Generator, n: int, *, noise: float = 0.005, kind: str = "alike") -> Observations:
    """n runs of a law at its typical parameters, with relative errors that are

    "alike": independent, of standard deviation `noise`;
    "unequal": independent, in proportion to how far a run lies above the lowest loss there can be, `noise` on average;
    "checkpoints": 8 checkpoints of each run, which share an error of `noise` and have half as much of their own.
    """
    inputs = planned(law, rng, n)
    if kind == "checkpoints":
        inputs = {name: np.repeat(values, CHECKPOINTS) for name, values in inputs.items()}
        inputs["tokens"] = inputs["tokens"] * np.tile(np.arange(1, CHECKPOINTS + 1) / CHECKPOINTS, n)
        run_N = np.repeat(np.arange(n), CHECKPOINTS)
        error_N = noise * (rng.standard_normal(n)[run_N] + 0.5 * rng.standard_normal(n * CHECKPOINTS))
        return seen(inputs, truth(law, inputs) * np.exp(error_N), run_N)
    clean_N = truth(law, inputs)
    sd_N = noise * np.ones(n)
    if kind == "unequal":
        excess_N = clean_N - typical(law).get("E", 0.0)
        sd_N = noise * excess_N / excess_N.mean()
    return seen(inputs, clean_N * np.exp(sd_N * rng.standard_normal(n)))


# A sweep's law: the best setting at a reference, and how it moves with scale (the learning rate's also with the batch).
REFERENCE = {"params_non_embedding": 1e8, "tokens": 5e9, "batch_tokens": 2.0**19}
BEST = {"lr": 2.0**-9, "batch_tokens": 2.0**19, "tau": 0.3}
EXPONENTS = {
    "lr": {"params_non_embedding": -0.6, "tokens": 0.05, "batch_tokens": 0.35},
    "batch_tokens": {"params_non_embedding": 0.05, "tokens": 0.5},
    "tau": {"params_non_embedding": 0.5, "tokens": -0.5},
}
CURVATURE = {"lr": 0.03, "batch_tokens": 0.012, "tau": 0.015}  # of ln loss, by ln setting
SKEW = 0.5

# Heights over curvature at x = ln(setting/best); the first is the joint model's own.
SHAPES: dict[str, Callable[[Array], Array]] = {
    "linex": lambda x: (np.exp(SKEW * x) - 1 - SKEW * x) / SKEW**2,
    "parabola": lambda x: x**2 / 2,
    "kinked": lambda x: x**2 / 2 * np.where(x > 0, 1.5, 0.75),
    "cosh": lambda x: np.cosh(x) - 1,
}

CELLS = tuple(itertools.product((3e7, 1e8, 3e8), (2e9, 8e9)))


def best_log(name: str, params: float, tokens: float, batch_tokens: float | None = None) -> float:
    """ln of the best setting at a scale; of the learning rate at a batch, or at the best one."""
    if batch_tokens is None:
        batch_tokens = (
            BEST["batch_tokens"] if name == "batch_tokens" else np.exp(best_log("batch_tokens", params, tokens))
        )
    at = {"params_non_embedding": params, "tokens": tokens, "batch_tokens": batch_tokens}
    moved = (exponent * np.log(at[of] / REFERENCE[of]) for of, exponent in EXPONENTS[name].items())
    return float(np.log(BEST[name]) + sum(moved))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A sweep of learning rates, and of batches and weight decays where asked for, about each cell's best on a grid of
    powers of two; `lr_octaves` and the others are the distances from it."""

    cells: Sequence[tuple[float, float]] = CELLS
    lr_octaves: Sequence[float] = (-3, -2, -1, 0, 1, 2, 3)
    batch_octaves: Sequence[float] = (0,)
    tau_octaves: Sequence[float] = ()
    shape: str = "linex"
    noise: float = 0.001
    scatter: float = 0.1  # of ln of a cell's own optimum
    seeds: int = 1
    cut: Mapping[int, Sequence[float]] = field(default_factory=dict)  # cell → its own lr_octaves
    diverges: float = np.inf  # octaves above the cell's own best

    def draw(self, rng: np.random.Generator) -> pd.DataFrame:
        parts = [self._cell(rng, place, *scale) for place, scale in enumerate(self.cells)]
        return pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})

    def _cell(self, rng: np.random.Generator, place: int, params: float, tokens: float) -> dict[str, Array]:
        swept = len(self.batch_octaves) > 1
        own = {name: self.scatter * rng.standard_normal() for name in BEST}
        middle = best_log("batch_tokens", params, tokens) if swept else np.log(BEST["batch_tokens"])
        lr_octaves = self.cut.get(place, self.lr_octaves)
        found = np.array(
            list(itertools.product(lr_octaves, self.batch_octaves, self.tau_octaves or (0,), range(self.seeds)))
        )
        batch_N = 2.0 ** (np.round(middle / np.log(2)) + found[:, 1])
        lr_N = 2.0 ** (np.round(best_log("lr", params, tokens, np.exp(middle)) / np.log(2)) + found[:, 0])
        tau_N = np.exp(best_log("tau", params, tokens)) * 2.0 ** found[:, 2]
        about = np.array([best_log("lr", params, tokens, batch) for batch in batch_N])
        height = SHAPES[self.shape]
        lr_off = np.log(lr_N) - about - own["lr"]
        excess_N = CURVATURE["lr"] * height(lr_off)
        if swept:
            excess_N += CURVATURE["batch_tokens"] * height(np.log(batch_N) - middle - own["batch_tokens"])
        if self.tau_octaves:
            excess_N += CURVATURE["tau"] * height(np.log(2) * found[:, 2] - own["tau"])
        level = 1.8 + 480 / params**0.35 + 2100 / tokens**0.37
        loss_N = level * np.exp(excess_N + self.noise * rng.standard_normal(len(found)))
        columns = {
            "params_non_embedding": np.full(len(found), params), "tokens": np.full(len(found), tokens),
            "batch_tokens": batch_N, "lr": lr_N, "seed": found[:, 3],
            "loss_nats": np.where(lr_off < self.diverges * np.log(2), loss_N, np.nan),
        }  # fmt: skip
        return columns | ({"weight_decay": batch_N / (lr_N * tau_N * tokens)} if self.tau_octaves else {})


def sweep_runs(rng: np.random.Generator, **options: object) -> pd.DataFrame:
    """A sweep, checked, as the joint fit takes it."""
    return checked(Grid(**options).draw(rng))  # type: ignore[arg-type]


def many_runs(rng: np.random.Generator, rows: int) -> pd.DataFrame:
    """A sweep of learning rate and batch at so many rows: 49 settings of each cell, as many cells as it takes."""
    side = int(np.ceil(np.sqrt(rows / 49)))
    cells = tuple(itertools.product(np.geomspace(1e7, 1e9, side), np.geomspace(1e9, 1e11, side)))
    return sweep_runs(rng, cells=cells, batch_octaves=(-3, -2, -1, 0, 1, 2, 3)).iloc[:rows]
