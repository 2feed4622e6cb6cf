"""The cells of a group as rows of a regression of log2 LR on log2 scale, and the scatter between them.

The scatter's point value is the method of moments: weighted squares equal their degrees of freedom (Paule & Mandel
1982, doi:10.6028/jres.087.022). With the handful of scales a proxy sweep has, that is zero half of the time and says
nothing without degrees of freedom; Student-t intervals on one degree of freedom, on the other hand, are 12.7 s.e. to
either side and use nothing of what the seeds tell. So the draws take the scatter from its posterior: the restricted
likelihood times a half-t prior of scale `SCATTER_PRIOR_OCTAVES`. With many scales the data decide; with two the
interval says what a typical scatter would do, and the status says that it is so.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import brentq

from scalelab.laws.law import Array
from scalelab.laws.optima import censored
from scalelab.laws.optima.evidence import Evidence
from scalelab.laws.optima.optimum import Optimum

SCATTER_PRIOR_OCTAVES = 0.15  # measured on the Step Law release (arXiv:2503.04715) at fixed batch: 0 to 0.22
SCATTER_PRIOR_DOF = 4  # assumed: heavy enough that a few scales can overrule the scale above
MIN_SD_OCTAVES = 1e-4  # optima of noise-free curves would otherwise have infinite weight


def design(optima: Sequence[Optimum], inputs: Sequence[str], reference: Mapping[str, float]) -> Array:
    columns = [np.log2([o.scale[name] / reference.get(name, 1.0) for o in optima]) for name in inputs]
    return np.stack([np.ones(len(optima)), *columns], axis=-1)


class Rows:
    """The cells as regression rows: design, bounds (equal where the optimum was fitted) and standard deviations."""

    def __init__(
        self, cells: Sequence[Optimum], used: Sequence[str], fixed: Mapping[str, float], reference: Mapping[str, float]
    ) -> None:
        self.design_NP = design(cells, used, reference)
        self.shift_N = sum(
            (p * np.log2([o.scale[n] / reference[n] for o in cells]) for n, p in fixed.items()), start=0.0
        )
        points = [o.log2_lr for o in cells]
        self.is_point = np.array([point is not None for point in points])
        bounds = [(o.low, o.high) if o.log2_lr is None else (o.log2_lr, o.log2_lr) for o in cells]
        self.low_N = np.array([-np.inf if low is None else low for low, _ in bounds]) - self.shift_N
        self.high_N = np.array([np.inf if high is None else high for _, high in bounds]) - self.shift_N
        known = [o.sd_octaves for o in cells if o.sd_octaves is not None]
        typical = float(np.median(known)) if known else SCATTER_PRIOR_OCTAVES
        self.sd_N = np.array([max(typical if o.sd_octaves is None else o.sd_octaves, MIN_SD_OCTAVES) for o in cells])
        self.dof = int(self.is_point.sum()) - self.design_NP.shape[1]

    def _restricted(self) -> tuple[Array, Array, Array]:
        return self.design_NP[self.is_point], self.low_N[self.is_point], self.sd_N[self.is_point] ** 2

    def moment_scatter(self) -> float:
        """Between-cell standard deviation in octaves, by moments; 0 without degrees of freedom."""
        if self.dof <= 0:
            return 0.0
        design_NP, y_N, variance_N = self._restricted()

        def surplus(scatter: float) -> float:
            total_N = variance_N + scatter**2
            beta_P = censored.weighted_inverse(design_NP, total_N[None])[0] @ y_N
            return float(((y_N - design_NP @ beta_P) ** 2 / total_N).sum() - self.dof)

        if surplus(0.0) <= 0:
            return 0.0
        return float(brentq(surplus, 0.0, 10 * float(np.ptp(y_N)) + 1.0))

    def maximum(self, scatter: float) -> Array:
        return censored.maximum(self.design_NP, self.low_N, self.high_N, self.sd_N**2 + scatter**2)

    def scatter_draws(self, evidence: Evidence) -> Array:
        """Scatter in octaves, one for each draw, from its posterior on a grid."""
        design_NP, y_N, variance_N = self._restricted()
        spread = float(np.std(y_N)) if len(y_N) else 0.0
        grid_G = np.linspace(0, 8 * SCATTER_PRIOR_OCTAVES + 3 * spread, 400)
        ratio_G = grid_G / SCATTER_PRIOR_OCTAVES
        log_G = -0.5 * (SCATTER_PRIOR_DOF + 1) * np.log1p(ratio_G**2 / SCATTER_PRIOR_DOF)
        if self.dof > 0:
            total_GN = variance_N + grid_G[:, None] ** 2
            beta_GP = censored.weighted_inverse(design_NP, total_GN) @ y_N
            residual_GN = y_N - beta_GP @ design_NP.T
            information_GPP = (design_NP.T[None] / total_GN[:, None, :]) @ design_NP
            log_G -= 0.5 * (np.log(total_GN).sum(axis=1) + (residual_GN**2 / total_GN).sum(axis=1))
            log_G -= 0.5 * np.linalg.slogdet(information_GPP)[1]
        share_G = np.cumsum(np.exp(log_G - log_G.max()))
        return np.interp(evidence.rng.uniform(size=len(evidence.log2_lr_DC)), share_G / share_G[-1], grid_G)

    def draws(self, evidence: Evidence, columns: Sequence[int], scatter_D: Array, start_P: Array) -> Array:
        """Draws of β: the optima's own draws around their estimates, plus scatter, plus what the bounds leave open."""
        own_DN = evidence.log2_lr_DC[:, columns]
        centred_DN = np.where(self.is_point, own_DN - np.where(self.is_point, self.low_N + self.shift_N, 0.0), 0.0)

        def noise() -> Array:
            shuffled_DN = centred_DN[evidence.rng.permutation(len(centred_DN))]
            return np.asarray(shuffled_DN + scatter_D[:, None] * evidence.rng.standard_normal(centred_DN.shape))

        variance_DN = self.sd_N**2 + scatter_D[:, None] ** 2
        return censored.sample(self.design_NP, self.low_N, self.high_N, variance_DN, noise, start_P, evidence.rng)
