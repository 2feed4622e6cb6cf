"""A law against observations: residuals and their derivatives for many parameter vectors at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scalelab.laws.law import Array, Law, Values
from scalelab.laws.solve.objective import Objective

TINY = 1e-30  # of complex-step derivatives; any tiny number is exact
SMALL = 1e-8  # of differences: about the root of the rounding error
FARTHEST = 300.0  # limit of a coordinate: the logarithm of a coefficient that is as good as 0 or infinite


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """`law` fitted to `output_N` at `inputs` (each of shape (N,)), under `objective`.

    Fitted coordinates θ are the law's parameters in their order, positive ones as logarithms. Where a law states no
    derivatives they are taken by complex steps, exact, or with `exact` False by differences, which are several times
    faster and good to eight digits: enough for refits.
    """

    law: Law
    inputs: Mapping[str, Array]
    output_N: Array
    objective: Objective
    exact: bool = True
    positive_P: Array = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "positive_P", np.array([p.positive for p in self.law.parameters.values()]))

    @property
    def names(self) -> list[str]:
        return list(self.law.parameters)

    def parameters(self, theta_RP: Array) -> dict[str, Array]:
        """Coordinates as parameters, arrays of shape (R, 1)."""
        return {
            name: np.exp(theta_RP[:, [k]]) if positive else theta_RP[:, [k]]
            for k, (name, positive) in enumerate(zip(self.names, self.positive_P, strict=True))
        }

    def coordinates(self, parameters: Values) -> Array:
        """Parameters, numbers or arrays of shape (R,), as coordinates of shape (R, P)."""
        columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(parameters[name], float)) for name in self.names))
        with np.errstate(divide="ignore"):
            rows = [np.log(c) if positive else c for c, positive in zip(columns, self.positive_P, strict=True)]
        return np.asarray(np.clip(np.stack(rows, axis=-1), -FARTHEST, FARTHEST))

    def residuals(self, theta_RP: Array) -> tuple[Array, Array]:
        """Residuals (R, N) and their derivatives by every coordinate (R, N, P); NaN where the law has no value."""
        with np.errstate(all="ignore"):
            log_RN, slope_RNP = self.log_values(theta_RP)
            if self.objective.space == "log":
                return log_RN - np.log(self.output_N), slope_RNP
            value_RN = np.exp(log_RN)
            return value_RN - self.output_N, slope_RNP * value_RN[..., None]

    def log_values(self, theta_RP: Array) -> tuple[Array, Array]:
        """ln of the law's output (R, N) and its derivatives by every coordinate (R, N, P)."""
        parameters = self.parameters(theta_RP)
        if self.law.derivatives is not None:
            return self.law.derivatives(parameters, self.inputs)
        log_RN = self._log_value(parameters)
        slope_RNP = np.empty((*log_RN.shape, len(self.names)))
        for k, (name, positive) in enumerate(zip(self.names, self.positive_P, strict=True)):
            at = theta_RP[:, [k]] + (1j * TINY if self.exact else SMALL)
            moved_RN = self._log_value({**parameters, name: np.exp(at) if positive else at})
            slope_RNP[..., k] = moved_RN.imag / TINY if self.exact else (moved_RN - log_RN) / SMALL
        return log_RN, slope_RNP

    def value(self, theta_RP: Array, weight_RN: Array | float = 1.0) -> Array:
        """The objective, shape (R,); infinite where the law has no value."""
        with np.errstate(all="ignore"):
            log_RN = self._log_value(self.parameters(theta_RP))
            predicted_RN, observed_N = (
                (log_RN, np.log(self.output_N)) if self.objective.space == "log" else (np.exp(log_RN), self.output_N)
            )
            total_R = (weight_RN * self.objective.rho(predicted_RN - observed_N)).sum(axis=1)
        return np.where(np.isfinite(total_R), total_R, np.inf)

    def _log_value(self, parameters: Values) -> Any:
        shape = (len(next(iter(parameters.values()))), len(self.output_N))
        return np.log(np.broadcast_to(self.law.value(parameters, self.inputs), shape))
