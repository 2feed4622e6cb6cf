"""All runs in one likelihood: ln loss = level of the cell + a valley in each hyperparameter that was varied.

    ln loss_i = Λ_c + Σ_q V_q(x_qi),   x_qi = ln setting_qi − (θ_q0 + Σ_j θ_qj ln s_j + e_qc) − bend

A cell c is one scale. q runs over what was varied within cells: the learning rate, the batch, AdamW's time scale τ (by
which weight decay acts: arXiv:2505.13738). The optimum of the learning rate depends on the scale and on the batch, so a
run whose batch is not the best says where the best learning rate for that batch is; that is the conditional law. e_qc
is how far a cell's own optimum lies from the law. Levels are the cell's own, drawn towards a loss law where one is
given.

The best learning rate does not grow with the batch for ever: under Adam it goes like 1/(√(B0/B) + √(B/B0)), which is √B
for small batches and bends down about a critical one (arXiv:2405.14578 eq. 22). That is −ln cosh(ln(B/B0)/2) in ln lr;
the `bend` is β·2 ln cosh(w ln(B/B*))/w² about the best batch B*, theory's at β = −1/8 and w = ½. It vanishes at B*, so
that exponents there mean what they say.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scalelab.laws.joint import priors
from scalelab.laws.joint.valley import bend, valley
from scalelab.laws.law import Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Coordinate:
    """A hyperparameter with a valley: ln setting of every run, centred ln covariates (n, k) that its optimum depends
    on, by name; `first` is the place of its first parameter, `place` its place among a cell's effects."""

    name: str
    setting_N: Array
    covariates: tuple[str, ...]
    covariate_NK: Array
    first: int
    place: int

    @property
    def centre(self) -> slice:
        """Parameters of the optimum: at the reference, then the exponents."""
        return slice(self.first, self.first + 1 + len(self.covariates))

    @property
    def curvature(self) -> int:
        """Parameter ln κ; after it the exponents of κ in the covariates, then the skew."""
        return self.first + 1 + len(self.covariates)

    @property
    def skew(self) -> int:
        """Parameter s, the coordinate's last."""
        return self.curvature + 1 + len(self.covariates)


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """The runs, sorted by cell (0..`cells`−1, some perhaps without runs), and the layout of the parameters.

    `bound_*` are divergences: in that cell at these covariates the optimal learning rate lies below the one given.
    `notes` say what was varied and cannot be fitted.
    """

    cell_N: npt.NDArray[np.intp]
    log_loss_N: Array
    cells: int
    coordinates: tuple[Coordinate, ...]
    bound_cell_M: npt.NDArray[np.intp]
    bound_lr_M: Array
    bound_covariate_MK: Array
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Parameters: "lr" (ln at the reference), "lr ~ tokens" (exponents), "lr curvature", …, "lr skew"."""
        found = []
        for q in self.coordinates:
            found += [q.name, *(f"{q.name} ~ {name}" for name in q.covariates), f"{q.name} curvature"]
            found += [*(f"{q.name} curvature ~ {name}" for name in q.covariates), f"{q.name} skew"]
        return [*found, "lr bend", "lr bend width"] if self.bends else found

    @property
    def bends(self) -> bool:
        """Whether learning rate and batch were both varied within cells."""
        return {"lr", "batch_tokens"} <= {q.name for q in self.coordinates}

    def priors(self) -> list[priors.Prior]:
        """A prior for every parameter; the optimum at the reference has one that hardly matters."""
        found = []
        for q in self.coordinates:
            middle = float(np.median(q.setting_N))
            found.append(priors.Prior(mean=middle, sd=3.0, source="within e³ of the middle of the sweep"))
            found += [priors.exponent(q.name, name) for name in q.covariates]
            found.append(priors.LOG_CURVATURE.get(q.name, priors.OTHER_CURVATURE))
            found += [priors.curvature_exponent(name) for name in q.covariates]
            found.append(priors.SKEW.get(q.name, priors.OTHER_SKEW))
        return [*found, priors.BEND, priors.BEND_WIDTH] if self.bends else found

    def offsets(self, theta_P: Array, effect_CE: Array) -> list[Array]:
        """x of every coordinate: ln setting over the optimum of the run's cell and batch."""
        found = [
            q.setting_N - theta_P[q.first] - q.covariate_NK @ theta_P[q.centre][1:] - effect_CE[self.cell_N, q.place]
            for q in self.coordinates
        ]
        if self.bends:
            found[0] = found[0] - theta_P[-2] * bend(found[1], theta_P[-1])[0]
        return found

    def heights(self, theta_P: Array, effect_CE: Array) -> Array:
        """Excess of every run over its cell's level, in ln loss."""
        total_N = np.zeros(len(self.log_loss_N))
        for q, x_N in zip(self.coordinates, self.offsets(theta_P, effect_CE), strict=True):
            total_N += self._kappa(q, theta_P) * valley(x_N, theta_P[q.skew])[0]
        return total_N

    def slopes(self, theta_P: Array, effect_CE: Array) -> tuple[Array, Array, Array]:
        """Heights, and derivatives of ln loss by the parameters (N, P) and by the cell's own effects (N, E)."""
        n = len(self.log_loss_N)
        height_N = np.zeros(n)
        slope_NP = np.zeros((n, len(theta_P)))
        own_NE = np.zeros((n, effect_CE.shape[1]))
        own_NE[:, 0] = 1.0
        offsets = self.offsets(theta_P, effect_CE)
        for q, x_N in zip(self.coordinates, offsets, strict=True):
            shape_N, by_x_N, by_skew_N = valley(x_N, theta_P[q.skew])
            kappa_N = self._kappa(q, theta_P)
            shape_N = kappa_N * shape_N
            height_N += shape_N
            down_N = -kappa_N * by_x_N
            _moved(slope_NP, own_NE, q, down_N)
            if self.bends and q.name == "lr":  # its optimum also moves with how far the batch is from its own
                bent_N, by_offset_N, by_width_N = bend(offsets[1], theta_P[-1])
                slope_NP[:, -2] = down_N * bent_N
                slope_NP[:, -1] = down_N * theta_P[-2] * by_width_N
                _moved(slope_NP, own_NE, self.coordinates[1], -theta_P[-2] * by_offset_N * down_N)
            slope_NP[:, q.curvature] = shape_N
            slope_NP[:, q.curvature + 1 : q.skew] = shape_N[:, None] * q.covariate_NK
            slope_NP[:, q.skew] = kappa_N * by_skew_N
        return height_N, slope_NP, own_NE

    def _kappa(self, q: Coordinate, theta_P: Array) -> Array:
        log_N = theta_P[q.curvature] + q.covariate_NK @ theta_P[q.curvature + 1 : q.skew]
        return np.asarray(np.exp(np.minimum(log_N, 20.0)))

    def beyond(self, theta_P: Array, effect_CE: Array) -> Array:
        """By how much ln optimal lr lies above each divergence; negative is as it should be."""
        if not len(self.bound_lr_M):
            return np.zeros(0)
        q = self.coordinates[0]
        centre_M = theta_P[q.first] + self.bound_covariate_MK @ theta_P[q.centre][1:]
        return np.asarray(centre_M + effect_CE[self.bound_cell_M, q.place] - self.bound_lr_M)


def _moved(slope_NP: Array, own_NE: Array, q: Coordinate, down_N: Array) -> None:
    """Add what moving the optimum of q does, `down_N` by one unit."""
    slope_NP[:, q.first] += down_N
    slope_NP[:, q.first + 1 : q.curvature] += down_N[:, None] * q.covariate_NK
    own_NE[:, q.place] += down_N


def layout(coordinates: Sequence[tuple[str, Array, tuple[str, ...], Array]]) -> tuple[Coordinate, ...]:
    """Coordinates with their places among the parameters, given (name, settings, covariates, their values)."""
    found, first = [], 0
    for place, (name, setting_N, covariates, covariate_NK) in enumerate(coordinates):
        found.append(
            Coordinate(
                name=name, setting_N=setting_N, covariates=covariates, covariate_NK=covariate_NK, first=first,
                place=place + 1,
            )
        )  # fmt: skip
        first += 2 * len(covariates) + 3
    return tuple(found)
