"""Sums of powers, E + A/N^α + B/D^β and their kin: value, exact derivatives and starting points from one description.

Given the exponents such a law is linear in its coefficients. So starts are a grid over the exponents with the
coefficients solved for at each (variable projection, Golub & Pereyra 1973, doi:10.1137/0710036), which reaches the best
optimum where a grid over all parameters mostly does not.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scalelab.laws.law import Array, Values

EXPONENTS = (0.05, 0.1, 0.16, 0.23, 0.31, 0.4, 0.52, 0.7, 1.0, 1.5)  # published loss exponents are 0.03 to 1
MOST_STARTS = 1500  # of a grid; beyond it exponents are drawn at random


@dataclass(frozen=True)
class Term:
    """coefficient · Π x^-p over `falls` · Π x^+p over `grows`; both map an input to the name of its exponent."""

    coefficient: str
    falls: Mapping[str, str] = field(default_factory=dict)
    grows: Mapping[str, str] = field(default_factory=dict)

    def powers(self) -> list[tuple[str, str, float]]:
        """(input, exponent, sign) of every factor."""
        return [(x, p, -1.0) for x, p in self.falls.items()] + [(x, p, 1.0) for x, p in self.grows.items()]

    def factor(self, parameters: Values, inputs: Values) -> Any:
        """What stands beside the coefficient."""
        return np.exp(sum((sign * parameters[p] * np.log(inputs[x]) for x, p, sign in self.powers()), start=0.0))


def value(terms: Sequence[Term]) -> Callable[[Values, Values], Any]:
    """The sum of the terms."""

    def evaluated(parameters: Values, inputs: Values) -> Any:
        return sum((parameters[t.coefficient] * t.factor(parameters, inputs) for t in terms), start=0.0)

    return evaluated


def derivatives(terms: Sequence[Term], names: Sequence[str]) -> Callable[[Values, Values], tuple[Array, Array]]:
    """log value (R, N) and its derivatives (R, N, P) by log coefficients and by exponents, in the order of `names`."""

    def evaluated(parameters: Values, inputs: Values) -> tuple[Array, Array]:
        logs = {x: np.log(inputs[x]) for t in terms for x, _, _ in t.powers()}
        parts_TRN = [
            np.exp(
                sum((s * parameters[p] * logs[x] for x, p, s in t.powers()), start=np.log(parameters[t.coefficient]))
            )
            for t in terms
        ]
        shape = np.broadcast_shapes(*(part.shape for part in parts_TRN), *(log.shape for log in logs.values()))
        total_RN = np.broadcast_to(sum(parts_TRN[1:], start=parts_TRN[0]), shape)
        slope_RNP = np.zeros((*shape, len(names)))
        for term, part_RN in zip(terms, parts_TRN, strict=True):
            share_RN = part_RN / total_RN
            slope_RNP[..., names.index(term.coefficient)] += share_RN
            for x, p, sign in term.powers():
                slope_RNP[..., names.index(p)] += sign * logs[x] * share_RN
        return np.log(total_RN), slope_RNP

    return evaluated


def starts(
    terms: Sequence[Term], grids: Mapping[str, Sequence[float]] | None = None
) -> Callable[[Values, Array], dict[str, Array]]:
    """A grid over the exponents (`grids`: exponent → its own values), with the coefficients that fit best at each."""
    exponents = list(dict.fromkeys(p for t in terms for _, p, _ in t.powers()))
    values = [tuple((grids or {}).get(p, EXPONENTS)) for p in exponents]

    def found(inputs: Values, output: Array) -> dict[str, Array]:
        grid_RP = _grid(values)
        at = {p: grid_RP[:, [k]] for k, p in enumerate(exponents)}
        basis_RNT = np.stack(
            [np.broadcast_to(t.factor(at, inputs), (len(grid_RP), len(output))) for t in terms], axis=-1
        )
        solved_RT = nonnegative(basis_RNT, output)
        return {p: at[p][:, 0] for p in exponents} | {t.coefficient: solved_RT[:, k] for k, t in enumerate(terms)}

    return found


def nonnegative(basis_RNT: Array, output_N: Array) -> Array:
    """Coefficients (R, T) > 0 of the least relative squares; one that would be negative is set to next to nothing."""
    scale_RT = np.abs(basis_RNT).mean(axis=1)  # columns differ by many orders of magnitude
    scaled = basis_RNT / scale_RT[:, None, :] / output_N[:, None]
    gram = np.swapaxes(scaled, 1, 2) @ scaled
    gram += 1e-9 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(gram.shape[-1])
    right = scaled.sum(axis=1)
    dropped = np.zeros(right.shape, dtype=bool)
    for _ in range(right.shape[1]):
        penalty = 1e12 * dropped[:, :, None] * np.eye(gram.shape[-1])
        solved = np.linalg.solve(gram + penalty, right[:, :, None])[:, :, 0]
        worst = np.argmin(solved, axis=1)
        negative = solved[np.arange(len(solved)), worst] < 0
        if not negative.any():
            break
        dropped[negative, worst[negative]] = True
    smallest = 1e-4 / scaled.shape[2]  # of the output, for a term that the best fit would do without
    return np.asarray(np.maximum(solved, smallest) / scale_RT)


def _grid(values: Sequence[Sequence[float]]) -> Array:
    count = int(np.prod([len(v) for v in values])) if values else 1
    if count <= MOST_STARTS:
        return np.array(list(itertools.product(*values)), dtype=float).reshape(count, len(values))
    rng = np.random.default_rng(0)
    return np.stack([rng.choice(np.asarray(v, dtype=float), MOST_STARTS) for v in values], axis=-1)
