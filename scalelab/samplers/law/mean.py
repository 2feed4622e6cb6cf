"""The joint law: a loss floor that falls with size, and around each hyperparameter's moving optimum a valley.

    f(s, h) = E + Σ_t exp(a_t − α_t t) + W ln(1 + V/W),   V = Σ_j κ_j linex(u_j; skew_j)
    u = R (h − h*),   ln h*_j = c_j + Σ_t b_jt t + q_j x²/2,   ln κ_j = k_j + g_j x

t are centred ln sizes (parameters, tokens), x the centred ln cost. R is unit lower triangular: hyperparameters
interact, as AdamW's weight decay does with the learning rate and the batch through its time scale (arXiv:2505.13738).
The floor is that of arXiv:2203.15556 eq. 2, the valley that of `laws.joint.valley`; far from its bottom it rises ever
more slowly (W), since a loss is bounded by that of an untrained model. The bends q say that no power law holds far.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scalelab.laws.joint.valley import valley
from scalelab.laws.law import Array

FLOOR = "floor"  # the law's lowest loss, by name
Rows = slice | npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """Where the law is asked: centred ln sizes (n, T), centred ln cost (n,), hyperparameters in their own units (n, H),
    what lies outside the law (n, O), encoded."""

    size_NT: Array
    cost_N: Array
    hyper_NH: Array
    other_NO: Array

    def __len__(self) -> int:
        return len(self.cost_N)

    def __getitem__(self, rows: Rows) -> "Points":
        return Points(size_NT=self.size_NT[rows], cost_N=self.cost_N[rows], hyper_NH=self.hyper_NH[rows],
                      other_NO=self.other_NO[rows])  # fmt: skip


def joined(parts: Sequence[Points]) -> Points:
    """Points one after another."""
    return Points(
        size_NT=np.concatenate([p.size_NT for p in parts]),
        cost_N=np.concatenate([p.cost_N for p in parts]),
        hyper_NH=np.concatenate([p.hyper_NH for p in parts]),
        other_NO=np.concatenate([p.other_NO for p in parts]),
    )


@dataclass(frozen=True, kw_only=True)
class Law:
    """The law's inputs by name and the place of every parameter; `depth` is W."""

    sizes: tuple[str, ...]
    hypers: tuple[str, ...]
    depth: float

    @property
    def names(self) -> list[str]:
        """Parameters: "floor", "floor ~ tokens" (ln amplitude and ln exponent), "lr", "lr ~ tokens", "lr bend", …"""
        found = [FLOOR]
        for size in self.sizes:
            found += [f"floor of {size}", f"floor ~ {size}"]
        for place, name in enumerate(self.hypers):
            found += [name, *(f"{name} ~ {size}" for size in self.sizes), f"{name} bend"]
            found += [f"{name} curvature", f"{name} curvature ~ cost", f"{name} skew"]
            found += [f"{name} with {other}" for other in self.hypers[:place]]
        return found

    def first(self, place: int) -> int:
        """Where the parameters of a hyperparameter begin."""
        t = len(self.sizes)
        return 1 + 2 * t + place * (t + 5) + place * (place - 1) // 2

    def curvature(self, place: int) -> int:
        """Where ln κ of a hyperparameter is; behind it are its exponent in cost, the skew and R's row."""
        return self.first(place) + len(self.sizes) + 2

    def optimum(self, theta_RP: Array, at: Points) -> Array:
        """h* (R, n, H)."""
        columns = []
        t = len(self.sizes)
        for place in range(len(self.hypers)):
            i = self.first(place)
            columns.append(
                theta_RP[:, i, None]
                + theta_RP[:, i + 1 : i + 1 + t] @ at.size_NT.T
                + theta_RP[:, i + 1 + t, None] * (0.5 * at.cost_N**2)
            )
        return np.stack(columns, axis=-1) if columns else np.zeros((len(theta_RP), len(at), 0))

    def floor(self, theta_RP: Array, at: Points) -> Array:
        """The loss at the bottom of the valley (R, n)."""
        total_RN = np.broadcast_to(theta_RP[:, :1], (len(theta_RP), len(at))).copy()
        for k in range(len(self.sizes)):
            total_RN += self._term(theta_RP, at, k)[0]
        return total_RN

    def _term(self, theta_RP: Array, at: Points, k: int) -> tuple[Array, Array]:
        """What a size adds to the floor, and by how many e-folds that is below its value at the reference."""
        log_a, log_alpha = theta_RP[:, 1 + 2 * k, None], theta_RP[:, 2 + 2 * k, None]
        fall_RN = np.exp(np.clip(log_alpha, -6.0, 2.0)) * at.size_NT[:, k]
        return np.exp(np.clip(log_a - fall_RN, -40.0, 20.0)), fall_RN

    def __call__(self, theta_RP: Array, at: Points) -> Array:
        """The law's loss (R, n)."""
        return self.slopes(theta_RP, at, derive=False)[0]

    def slopes(self, theta_RP: Array, at: Points, *, derive: bool = True) -> tuple[Array, Array, Array]:
        """Loss (R, n), its derivatives by the parameters (R, n, P), and heights in the valley (R, n)."""
        r, n, t = len(theta_RP), len(at), len(self.sizes)
        loss_RN = np.broadcast_to(theta_RP[:, :1], (r, n)).copy()
        slope_RNP = np.zeros((r, n, theta_RP.shape[1] if derive else 0))
        if derive:
            slope_RNP[..., 0] = 1.0
        for k in range(t):
            term_RN, fall_RN = self._term(theta_RP, at, k)
            loss_RN += term_RN
            if derive:
                slope_RNP[..., 1 + 2 * k], slope_RNP[..., 2 + 2 * k] = term_RN, -term_RN * fall_RN
        z_RNH = at.hyper_NH - self.optimum(theta_RP, at)
        height_RN = np.zeros((r, n))
        by_z_RNH = np.zeros_like(z_RNH)
        for j in range(len(self.hypers)):
            shape = self.curvature(j)
            row_RJ = theta_RP[:, shape + 3 : shape + 3 + j]
            u_RN = z_RNH[..., j] + np.einsum("rnj,rj->rn", z_RNH[..., :j], row_RJ)
            kappa_RN = np.exp(np.clip(theta_RP[:, shape, None] + theta_RP[:, shape + 1, None] * at.cost_N, -20.0, 10.0))
            shape_RN, by_u_RN, by_skew_RN = valley(u_RN, theta_RP[:, shape + 2, None])
            height_RN += kappa_RN * shape_RN
            if not derive:
                continue
            slope_RNP[..., shape] = kappa_RN * shape_RN
            slope_RNP[..., shape + 1] = kappa_RN * shape_RN * at.cost_N
            slope_RNP[..., shape + 2] = kappa_RN * by_skew_RN
            by_u_RN = kappa_RN * by_u_RN
            slope_RNP[..., shape + 3 : shape + 3 + j] = by_u_RN[..., None] * z_RNH[..., :j]
            by_z_RNH[..., j] += by_u_RN
            by_z_RNH[..., :j] += by_u_RN[..., None] * row_RJ[:, None, :]
        risen_RN = self.depth * np.log1p(height_RN / self.depth)
        if derive:
            for j in range(len(self.hypers)):
                i = self.first(j)
                down_RN = -by_z_RNH[..., j]
                slope_RNP[..., i] = down_RN
                slope_RNP[..., i + 1 : i + 1 + t] = down_RN[..., None] * at.size_NT
                slope_RNP[..., i + 1 + t] = down_RN * (0.5 * at.cost_N**2)
            slope_RNP[..., 1 + 2 * t :] /= (1 + height_RN / self.depth)[..., None]
        return loss_RN + risen_RN, slope_RNP, risen_RN
