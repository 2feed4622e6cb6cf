"""What may be true, at every scale at once: draws of the laws' parameters, and what runs would show in each.

`belief` knows one target. A plan asks what a run elsewhere would say about it, so here a draw keeps its exponents from
scale to scale, and every scale has a deviation of its own. A scale in which no proxy varied has an exponent too
(`unseen`): the table's 0 in as many worlds as a claim of it is believed in, the literature's weak prior in the others.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scalelab.laws import Joint
from scalelab.laws.design.of_joint import linear
from scalelab.laws.joint import priors
from scalelab.laws.joint.solve import variance
from scalelab.laws.law import Array
from scalelab.models import count_params
from scalelab.recommend.averaging import Average, Posterior, average
from scalelab.recommend.belief import TAILS, bounded
from scalelab.recommend.unseen import MOVABLE, exponents, unseen
from scalelab.spec import RunSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class Worlds:
    """D draws: `parameters` of the joint law, (D, 1) each; `unseen` maps scales that no proxy varied to the exponent of
    the best learning rate in them, counted from `origin`, the proxies' own."""

    joint: Joint
    parameters: Mapping[str, Array] = field(repr=False)
    unseen: Mapping[str, Array] = field(repr=False)
    origin: Mapping[str, float]

    @property
    def size(self) -> int:
        return len(self.parameters["lr"])

    def part(self, rows: slice) -> "Worlds":
        """Some of the draws."""
        parameters, unseen = ({k: v[rows] for k, v in each.items()} for each in (self.parameters, self.unseen))
        return Worlds(joint=self.joint, parameters=parameters, unseen=unseen, origin=self.origin)

    def best_lr(self, scale: Mapping[str, float], rng: np.random.Generator) -> Array:
        """ln of the best learning rate at a scale, its own deviation from the law included, (D, 1)."""
        at, logs = self._at(scale)
        law_D1 = self.joint.optimum("lr", at, logs, self.parameters)
        return np.asarray(law_D1 + self._moved("lr", scale, rng))

    def excess(
        self, scale: Mapping[str, float], lrs: Sequence[float], rng: np.random.Generator, *, only_lr: bool = False
    ) -> Array:
        """Excess ln loss of runs at a scale with these learning rates, (D, R): one deviation of the scale for all.

        Everything that has a valley counts, unless `only_lr`.
        """
        at, logs = self._at(scale)
        log_lrs = np.log(np.asarray(lrs))
        settings = {"lr": log_lrs, **logs}
        if "weight_decay" in scale and scale["weight_decay"] > 0:
            settings["tau"] = math.log(scale["batch_tokens"] / (scale["weight_decay"] * scale["tokens"])) - log_lrs
        total_DR = np.zeros((self.size, len(log_lrs)))
        for name in self.joint.coordinates:
            if name in settings and (name == "lr" or not only_lr):
                log_DR = np.asarray(settings[name] - self._moved(name, scale, rng))
                total_DR = total_DR + self.joint.height(name, at, logs, log_DR, self.parameters)
        return bounded(total_DR)

    def noise(self, height_R: Array) -> Array:
        """Variance of runs' ln loss: noise, and what the valley's formula errs by at such heights."""
        return variance(self.joint.noise, self.joint.misfit, height_R, priors.USUAL.trusted)

    def _moved(self, name: str, scale: Mapping[str, float], rng: np.random.Generator) -> Array:
        own_D1 = self.joint.scatter[name] * math.log(2) * rng.standard_normal((self.size, 1))
        if name != "lr":
            return np.asarray(own_D1)
        shifts = (p * math.log(scale[x] / self.origin[x]) for x, p in self.unseen.items())
        return np.asarray(sum(shifts, start=own_D1))

    def _at(self, scale: Mapping[str, float]) -> tuple[dict[str, float], dict[str, Array]]:
        known = {name: v for name, v in scale.items() if name in self.joint.domain and name != "batch_tokens"}
        return self.joint.log_ratios(known), {"batch_tokens": np.array(math.log(scale["batch_tokens"]))}


def scale_of(spec: RunSpec) -> dict[str, float]:
    """The scales and held settings of a run, by column."""
    return {
        "width": float(spec.shape.width), "depth": float(spec.shape.depth),
        "params_non_embedding": float(count_params(spec).non_embedding), "tokens": float(spec.horizon.tokens),
        "batch_tokens": float(spec.horizon.batch_tokens), "weight_decay": float(spec.hparams.weight_decay),
        "experts": float(spec.shape.experts),
    }  # fmt: skip


def worlds(
    joint: Joint, proxy: RunSpec, target: RunSpec, claims: Collection[str], *, n: int, rng: np.random.Generator
) -> Worlds:
    """n draws of what these runs and the table's claims leave possible.

    Args:
        joint: a fit that knows the best learning rate.
        proxy: the largest proxy.
        target: whose scales may be beyond all that was varied.
        claims: scales over which the table transfers.
    """
    theta_DP, _ = _average(joint, claims).draws(n, rng)
    theta_DP = theta_DP[rng.permutation(n)]  # models come one after another
    here, there = scale_of(proxy), scale_of(target)
    drawn = exponents(unseen(joint.coordinates["lr"], joint.domain, here, there), claims, n, rng)
    parameters = {name: theta_DP[:, [place]] for place, name in enumerate(joint.estimates)}
    return Worlds(joint=joint, parameters=parameters, unseen=drawn, origin={name: here[name] for name in MOVABLE})


def _average(joint: Joint, claims: Collection[str]) -> Average:
    model = linear(joint)
    posterior = Posterior(
        names=tuple(joint.estimates), mean_P=model.theta_P, scale_PP=model.covariance_PP,
        dof=max(joint.dof, TAILS), priors=joint.priors,
    )  # fmt: skip
    return average(posterior, [f"lr ~ {name}" for name in joint.coordinates["lr"] if name in claims])
