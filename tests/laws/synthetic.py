"""Synthetic runs whose law is known: losses by a law's own formula, and sweeps whose valleys have a known bottom."""

from collections.abc import Mapping

import numpy as np

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
