"""Laws of the optimum along one scale: the points of a path through the others, and the prediction there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scalelab.laws import Estimate, GroupLaws, Prediction
from scalelab.laws.draw.style import SYMBOLS
from scalelab.laws.law import Array
from scalelab.parametrizations import TABLES
from scalelab.plots.named import independent

GRID = 40
REACH = 4.0  # times the largest scale swept


@dataclass(frozen=True, kw_only=True, eq=False)
class Path:
    """A scale from the smallest swept to `REACH` times the largest, and what the other scales are along it."""

    scale: str
    x_G: Array
    largest: float
    others: Mapping[str, Array]

    def point(self, place: int) -> dict[str, float]:
        """Every scale at one place of the path."""
        return {self.scale: float(self.x_G[place]), **{k: float(v[place]) for k, v in self.others.items()}}


@dataclass(frozen=True, kw_only=True, eq=False)
class Band:
    """A law along a path with its 95 % interval, and its exponent in words."""

    value_G: Array
    low_G: Array
    high_G: Array
    words: str


def path_of(cells: Sequence[Mapping[str, float]], scale: str, fixed: Mapping[str, float]) -> Path:
    """A path along one scale. A scale that this one implies follows as in the sweep, others stay in their middle."""
    x_N = np.log([cell[scale] for cell in cells])
    x_G = np.linspace(x_N.min(), x_N.max() + np.log(REACH), GRID)
    free = [name for name in independent(cells) if name != scale]
    others: dict[str, Array] = {}
    for name in cells[0]:
        if name == scale:
            continue
        logs_N = np.log([max(cell[name], 1e-30) for cell in cells])
        if name in fixed:
            others[name] = np.full(GRID, fixed[name])
        elif name in free or np.ptp(logs_N) == 0:
            others[name] = np.full(GRID, np.exp((logs_N.min() + logs_N.max()) / 2))
        else:  # along the sweep, at what is fixed of the rest
            given = [each for each in (*free, *fixed) if each in cells[0]]
            basis_NK = np.column_stack([np.ones(len(cells)), x_N, *(np.log([c[g] for c in cells]) for g in given)])
            beta_K = np.linalg.lstsq(basis_NK, logs_N, rcond=None)[0]
            at_K = [np.log(others[g][0]) if g in others else np.log([c[g] for c in cells]).mean() for g in given]
            others[name] = np.exp(beta_K[0] + beta_K[1] * x_G + float(np.dot(beta_K[2:], at_K)))
    return Path(scale=scale, x_G=np.exp(x_G), largest=float(np.exp(x_N.max())), others=others)


def joint_band(group: GroupLaws, coordinate: str, path: Path) -> Band | None:
    """The joint law of a hyperparameter; at the best batch where batches were swept."""
    joint = group.joint
    if joint is None or coordinate not in joint.coordinates or path.scale not in joint.reference:
        return None
    needed = [name for name in joint.reference if name != "batch_tokens"]
    points = [path.point(place) for place in range(GRID)]
    found = [joint.predict(**{name: at[name] for name in needed}).values[coordinate] for at in points]
    return _band(found, coordinate, {name: joint.estimates.get(f"{coordinate} ~ {name}") for name in joint.reference})


def two_stage_band(group: GroupLaws, path: Path) -> Band | None:
    """The power law that was regressed on the optima."""
    fit = group.lr_fits.get("power") or group.lr_fits.get("power_params")
    if fit is None or path.scale not in fit.reference:
        return None
    found = [fit.predict(**{n: path.point(place)[n] for n in fit.reference}) for place in range(GRID)]
    return _band(found, "lr", {name: fit.estimates.get(name) for name in fit.reference})


def theory_line(group: GroupLaws, path: Path, band: Band) -> Array | None:
    """The optimum that theory predicts along a path, through the law's in the middle of the sweep; None if it has none.

    The tuned rate is the one that a table's rules multiply, so that it is constant in what a table transfers over.
    """
    known = TABLES.get(str(group.key.get("parametrization")))
    if known is None or path.scale not in known.transfers:
        return None
    swept = np.log(path.x_G[path.x_G <= path.largest * (1 + 1e-9)])
    return np.full(GRID, np.exp(np.interp(swept.mean(), np.log(path.x_G), np.log(band.value_G))))


def _band(found: Sequence[Prediction], coordinate: str, exponents: Mapping[str, Estimate | None]) -> Band:
    powers = [
        f"{SYMBOLS.get(name, name)}^{e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]" for name, e in exponents.items() if e
    ]
    return Band(
        value_G=np.array([p.value for p in found]),
        low_G=np.array([p.low for p in found]),
        high_G=np.array([p.high for p in found]),
        words=f"{SYMBOLS.get(coordinate, coordinate)} ∝ {' · '.join(powers)}",
    )
