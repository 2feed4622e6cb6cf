"""Theory and measurement weighted: is an exponent what the table says, or what the runs say?

For every scale that a table claims to transfer over and the runs varied, the exponent of the best learning rate is
either 0 (the claim) or free, with the law's own weak prior: a spike and a slab. Each claim is given probability `CLAIM`
before these runs. A model that holds exponents S at 0 is then nested in the free one, and its evidence against it is
the posterior's density at S = 0 over the prior's (Savage and Dickey; Dickey 1971, doi:10.1214/aoms/1177693507). The
average over all 2^k models carries the variance within each and that between them (Hoeting et al. 1999,
doi:10.1214/ss/1009212519).
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import gammaln

from scalelab.laws.law import Array

CLAIM = 0.5  # probability, before any run, that the optimum does not move with a scale of which the table claims it
LEAST = 1e-4  # of weight: models below it are dropped


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """Student-t over a law's parameters: `mean_P`, `scale_PP`, `dof`; `priors` are (mean, sd) by name."""

    names: tuple[str, ...]
    mean_P: Array
    scale_PP: Array
    dof: float
    priors: Mapping[str, tuple[float, float]]

    def held(self, names: Sequence[str]) -> "Posterior":
        """Given that these parameters are 0 (the conditional of a Student-t; Ding 2016, arXiv:1604.00561)."""
        on = [self.names.index(name) for name in names]
        if not on:
            return self
        inverse = np.linalg.inv(self.scale_PP[np.ix_(on, on)])
        off_K, gain_PK = -self.mean_P[on], self.scale_PP[:, on] @ inverse
        stretch = (self.dof + float(off_K @ inverse @ off_K)) / (self.dof + len(on))
        left_PP = self.scale_PP - gain_PK @ self.scale_PP[on]
        left_PP[on, :] = left_PP[:, on] = 0.0
        return replace(self, mean_P=self.mean_P + gain_PK @ off_K, scale_PP=stretch * left_PP, dof=self.dof + len(on))

    def log_evidence(self, names: Sequence[str]) -> float:
        """ln of the evidence that these parameters are 0 over that for their being free."""
        if not names:
            return 0.0
        on = [self.names.index(name) for name in names]
        scale_KK, k = self.scale_PP[np.ix_(on, on)], len(on)
        off_K = self.mean_P[on]
        squared = float(off_K @ np.linalg.solve(scale_KK, off_K))
        at = gammaln((self.dof + k) / 2) - gammaln(self.dof / 2) - k / 2 * np.log(np.pi * self.dof)
        at -= np.linalg.slogdet(scale_KK)[1] / 2 + (self.dof + k) / 2 * np.log1p(squared / self.dof)
        prior = sum(stats.norm.logpdf(0.0, *self.priors[name]) for name in names)
        return float(at - prior)

    def draws(self, n: int, rng: np.random.Generator) -> Array:
        """n draws, a row each."""
        values_P, vectors_PP = np.linalg.eigh(self.scale_PP)
        root_PP = vectors_PP * np.sqrt(np.maximum(values_P, 0.0))
        tails_D = np.sqrt(self.dof / rng.chisquare(self.dof, n))
        return np.asarray(self.mean_P + tails_D[:, None] * (rng.standard_normal((n, len(values_P))) @ root_PP.T))


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """One model of the average: the exponents that it holds at 0, its weight, its posterior."""

    held: tuple[str, ...]
    weight: float
    posterior: Posterior


@dataclass(frozen=True, kw_only=True, eq=False)
class Average:
    """All models; `theory` is the weight of the one that holds every claim, `claims` that of each claim by itself."""

    members: tuple[Member, ...]
    claimed: tuple[str, ...]

    @property
    def theory(self) -> float:
        if not self.claimed:
            return 0.0
        return float(sum(member.weight for member in self.members if set(member.held) == set(self.claimed)))

    @property
    def claims(self) -> dict[str, float]:
        return {name: sum(m.weight for m in self.members if name in m.held) for name in self.claimed}

    def draws(self, n: int, rng: np.random.Generator) -> tuple[Array, npt.NDArray[np.bool_]]:
        """n draws of the parameters, models in proportion to their weights, and which are the theory's."""
        ends = np.round(np.cumsum([member.weight for member in self.members]) * n).astype(int)
        counts = np.diff(ends, prepend=0)
        theta_DP = np.concatenate([m.posterior.draws(int(c), rng) for m, c in zip(self.members, counts, strict=True)])
        of_theory = [bool(self.claimed) and set(m.held) == set(self.claimed) for m in self.members]
        return theta_DP, np.repeat(of_theory, counts)


def average(posterior: Posterior, claimed: Sequence[str], *, prior: float = CLAIM) -> Average:
    """Every model that holds some of the claimed exponents at 0, weighted by its evidence and by `prior`."""
    subsets = [s for k in range(len(claimed) + 1) for s in itertools.combinations(claimed, k)]
    log_S = np.array([
        posterior.log_evidence(s) + len(s) * np.log(prior) + (len(claimed) - len(s)) * np.log1p(-prior)
        for s in subsets
    ])  # fmt: skip
    weight_S = np.exp(log_S - log_S.max())
    weight_S = np.where(weight_S < LEAST * weight_S.sum(), 0.0, weight_S)
    weight_S /= weight_S.sum()
    members = tuple(
        Member(held=subset, weight=float(weight), posterior=posterior.held(subset))
        for subset, weight in zip(subsets, weight_S, strict=True)
        if weight > 0
    )
    return Average(members=members, claimed=tuple(claimed))
