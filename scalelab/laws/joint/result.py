"""What the joint fit says: laws of the optimum with intervals, and the setting to use at a scale."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scalelab.errors import Refused
from scalelab.laws.columns import PARAMS
from scalelab.laws.fitted import Estimate, Interval, Prediction, outside
from scalelab.laws.joint.valley import bend, valley
from scalelab.laws.law import Array

ORDER = ("batch_tokens", "lr", "tau")  # each needs those before it
PINNED = 0.8  # share of a prior's sd: an exponent known no better than this is the prior's


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The best setting at a scale: `values` of each hyperparameter with 95 % intervals for that scale's own optimum,
    "lr", "batch_tokens", "tau", "weight_decay" where known; `given` are those that the caller fixed.
    `expected_excess` is what the uncertainty of the setting is expected to cost, as a share of the loss."""

    values: dict[str, Prediction]
    given: dict[str, float]
    expected_excess: float


@dataclass(frozen=True, kw_only=True)
class CellBest:
    """One scale by itself: ln of its best loss with the standard deviation, and for each coordinate ln of its own best
    setting with the standard deviation that its own runs give it, free of the law through the other cells."""

    scale: dict[str, float]
    log_loss: float
    log_loss_sd: float
    settings: dict[str, tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Joint:
    """All runs of a group in one likelihood.

    `estimates` by parameter: "lr ~ tokens" is the exponent of the best learning rate in tokens (at a given batch, where
    batches varied), "lr" the best one at the `reference`, "lr curvature" ln κ there, "lr skew" s, "lr bend" and its
    "width" (ln w) how it leaves the power law in the batch. Each has the posterior interval, and beside it those of
    cells resampled (`bootstrap`) and of the profile. `priors` are (mean, sd). `coordinates` maps what has a valley to
    what its optimum depends on. `scatter` is how far a cell's own optimum lies from the law, in octaves. `noise` is one
    run's relative noise, `misfit` the share by which the valley's formula errs. `draws` are of every parameter, `cells`
    what each scale says by itself.
    """

    estimates: dict[str, Estimate]
    priors: dict[str, Interval]
    coordinates: dict[str, tuple[str, ...]]
    reference: dict[str, float]
    domain: dict[str, Interval]
    scatter: dict[str, float]
    noise: float
    misfit: float
    noise_source: str
    dof: float
    n_runs: int
    n_cells: int
    status: str
    warnings: tuple[str, ...]
    draws: dict[str, tuple[float, ...]] = field(repr=False)
    cells: tuple[CellBest, ...] = field(repr=False)

    def pinned_by_prior(self) -> list[str]:
        """Exponents on which the runs say next to nothing: their interval is the prior's."""
        return [
            name
            for name, e in self.estimates.items()
            if " ~ " in name and "curvature" not in name and e.sd > PINNED * self.priors[name][1]
        ]

    @property
    def only_batch(self) -> float | None:
        """The batch of every run, in tokens; None where they differ or do not say."""
        low, high = self.domain.get("batch_tokens", (0.0, math.inf))
        return low if low == high else None

    def predict(self, *, batch_tokens: float | None = None, lr: float | None = None, **scale: float) -> Setting:
        """The best setting at a scale.

        Args:
            batch_tokens: the batch that will be used; left out, the best one, where batches were varied.
            lr: the learning rate that will be used, for the best weight decay beside it; left out, the best one.
            scale: every scale of the law, by its column's name; others of the domain may be given.

        Raises:
            Refused: on a missing or unknown scale, or one that is not a finite number > 0.
        """
        at = self.log_ratios(scale)
        given = {name: value for name, value in (("batch_tokens", batch_tokens), ("lr", lr)) if value is not None}
        if "batch_tokens" not in {*given, *self.coordinates} and self.only_batch is not None:
            given["batch_tokens"] = self.only_batch
        # ln of every setting, the chosen and (D,) draws of the truth; what is given is certain.
        logs: dict[str, Array] = {name: np.array(math.log(value)) for name, value in given.items()}
        log_D = dict(logs)
        sought = [name for name in ORDER if name in self.coordinates and name not in given]
        drawn = {name: np.array(draws) for name, draws in self.draws.items()}
        tails = np.random.default_rng(0).standard_t(max(self.dof, 3.0), size=(3, len(next(iter(drawn.values())))))
        values: dict[str, Prediction] = {}
        for row, name in enumerate(sought):
            logs[name] = self.optimum(name, at, logs, self._points())
            own_D = self.scatter[name] * math.log(2) * tails[row]  # a new scale's own deviation from the law
            log_D[name] = self.optimum(name, at, log_D, drawn) + own_D
            values[name] = self._prediction(logs[name], log_D[name], scale)
        if {"batch_tokens", "lr", "tau"} <= logs.keys() and "tokens" in scale:
            decay, decay_D = (x["batch_tokens"] - x["lr"] - x["tau"] - math.log(scale["tokens"]) for x in (logs, log_D))
            values["weight_decay"] = self._prediction(decay, decay_D, scale)
        return Setting(values=values, given=given, expected_excess=self._expected(sought, logs, log_D, at))

    def excess(self, settings: Mapping[str, float], **scale: float) -> float:
        """Relative excess loss of settings (lr, batch_tokens, …) over the best at a scale, by the fitted valleys."""
        at, points = self.log_ratios(scale), self._points()
        logs = {name: np.array(math.log(value)) for name, value in settings.items()}
        heights = (self.height(name, at, logs, logs[name], points) for name in self.coordinates if name in logs)
        return math.expm1(float(sum(heights, start=np.array(0.0))))

    def _points(self) -> dict[str, Array]:
        return {name: np.array(e.value) for name, e in self.estimates.items()}

    def log_ratios(self, scale: Mapping[str, float]) -> dict[str, float]:
        """ln of every scale of the law over its reference; `Refused` on a missing or unknown one."""
        for name, value in scale.items():
            if name not in self.domain:
                raise Refused(f"unknown scale {name!r}: this fit knows {', '.join(self.domain)}")
            if not (math.isfinite(value) and value > 0):
                raise Refused(f"{name}={value!r}: accepted is a finite number > 0")
        needed = [name for name in self.reference if name != "batch_tokens"]
        if missing := [name for name in needed if name not in scale]:
            raise Refused(f"the joint law needs {', '.join(needed)}: {', '.join(missing)} not given")
        return {name: math.log(scale[name] / self.reference[name]) for name in needed}

    def _covariate(self, name: str, at: Mapping[str, float], logs: Mapping[str, Array]) -> Array:
        if name != "batch_tokens":
            return np.array(at[name])
        # A batch that was neither given nor found: the law holds at the reference batch.
        return logs["batch_tokens"] - math.log(self.reference[name]) if name in logs else np.array(0.0)

    def optimum(
        self, name: str, at: Mapping[str, float], logs: Mapping[str, Array], parameters: Mapping[str, Array]
    ) -> Array:
        """ln of the best setting, for every draw in `parameters`; `logs` has ln batch, where it is known."""
        terms = [parameters[f"{name} ~ {of}"] * self._covariate(of, at, logs) for of in self.coordinates[name]]
        best = np.asarray(sum(terms, start=parameters[name]))
        if name == "lr" and "lr bend" in parameters and "batch_tokens" in logs:
            own = self.optimum("batch_tokens", at, {}, parameters)
            bent = bend(logs["batch_tokens"] - own, parameters["lr bend width"])[0]
            best = best + parameters["lr bend"] * bent
        return best

    def height(
        self, name: str, at: Mapping[str, float], logs: Mapping[str, Array], log: Array,
        parameters: Mapping[str, Array],
    ) -> Array:  # fmt: skip
        """Excess ln loss of a setting at ln `log` over the best, for every draw in `parameters`."""
        x = np.asarray(log - self.optimum(name, at, logs, parameters))
        bend = [parameters[f"{name} curvature ~ {of}"] * self._covariate(of, at, logs) for of in self.coordinates[name]]
        kappa = np.exp(sum(bend, start=parameters[f"{name} curvature"]))
        return np.asarray(kappa * valley(x, parameters[f"{name} skew"])[0])

    def _expected(
        self, order: Sequence[str], logs: Mapping[str, Array], log_D: Mapping[str, Array], at: Mapping[str, float]
    ) -> float:
        """Mean excess where the truth is one of the draws: the valley, moved by how far it lies from the choice."""
        points = self._points()
        total_D = np.zeros(1)
        for name in order:
            centre = float(self.optimum(name, at, logs, points))
            total_D = total_D + self.height(name, at, logs, 2 * centre - np.asarray(log_D[name]), points)
        return float(np.minimum(np.expm1(np.minimum(total_D, 1.0)), 1.0).mean())

    def _prediction(self, log: Array, log_D: Array, scale: Mapping[str, float]) -> Prediction:
        low, high = np.percentile(log_D, [2.5, 97.5])
        return Prediction(
            value=math.exp(float(log)), low=math.exp(low), high=math.exp(high), outside=outside(scale, self.domain)
        )


def sized(joint: Joint) -> bool:
    """Whether a joint law is in parameters and not in width and depth."""
    return any(name in PARAMS for name in joint.reference)
