"""Where one could train: scales on a log grid around those that were swept, and what a run at each costs."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scalelab.errors import Refused
from scalelab.laws.columns import SCALES
from scalelab.laws.law import Array

WHOLE = ("width", "depth", "experts", "streams")  # in steps of what the swept values share: heads, groups
GROWTH = {name: 2.0 if name in WHOLE else 4.0 for name in SCALES}  # beyond the largest that was swept
POINTS = {1: 9, 2: 6, 3: 4}  # of the grid in each scale, by how many scales there are
FEWEST_POINTS = 3
OFF_DIAGONAL = 4.0  # factor by which tokens a parameter may leave those swept and the target's: assumed
SAME = 0.1  # relative: at scales nearer than this optima would scatter together
# What a step computes with comes first: 6 N D counts the parameters that a token meets (arXiv:2001.08361 §2.1).
COMPUTES = ("params_active", "params_non_embedding", "params_total", "params")


def run_flops(scale: Mapping[str, float]) -> float:
    """Training FLOPs of one run, 6 N D; N is 12·depth·width² where no column counts parameters (arXiv:2001.08361).

    >>> f"{run_flops({'params_non_embedding': 1e9, 'tokens': 2e10}):.3g}"
    '1.2e+20'

    Raises:
        Refused: where the scale does not say how many parameters or tokens.
    """
    params = next((scale[name] for name in COMPUTES if name in scale), None)
    if params is None and {"width", "depth"} <= scale.keys():
        params = 12 * scale["depth"] * scale["width"] ** 2
    if params is None or "tokens" not in scale:
        raise Refused(f"a run costs 6·params·tokens, and known are {', '.join(scale)} only: add the missing column")
    return 6 * params * scale["tokens"]


@dataclass(frozen=True, kw_only=True)
class Space:
    """Scales: a law's own (`names`), and beside them those that go with them in the swept `cells`.

    A scale that was swept is proposed again only where `again`: where each scale's own optimum scatters about the law,
    more runs at one say little that it has not said.
    """

    names: tuple[str, ...]
    cells: tuple[dict[str, float], ...]
    again: bool = False

    def full(self, scale: Mapping[str, float]) -> dict[str, float]:
        """A scale with those that go with it: each a power law of `names` through the swept cells."""
        design_CK = self._design(self.cells)
        own_K = self._design([scale])[0]
        found = dict(scale)
        for name in self.cells[0]:
            if name not in found:
                swept = [cell[name] for cell in self.cells]
                value = float(np.exp(own_K @ np.linalg.lstsq(design_CK, np.log(swept), rcond=None)[0]))
                whole = all(float(x).is_integer() for x in swept)
                found[name] = swept[0] if len(set(swept)) == 1 else max(round(value), 1.0) if whole else value
        return found

    def candidates(self, target: Mapping[str, float], *, batch_tokens: float | None) -> list[dict[str, float]]:
        """Scales to train at, cheapest first: none that was swept, none as costly as the target, and none far from the
        diet of both, where a law's form would be trusted with what nobody has seen."""
        grids = [self._grid(name, target[name], batch_tokens) for name in self.names]
        found = [self.full(dict(zip(self.names, values, strict=True))) for values in itertools.product(*grids)]
        most = max(run_flops(self.full(target)), *(run_flops(cell) for cell in self.cells))
        kept = [
            scale
            for scale in found
            if run_flops(scale) < most and self._fed(scale, target) and (self.again or not self._swept(scale))
        ]
        return sorted(kept, key=run_flops)

    def _grid(self, name: str, target: float, batch_tokens: float | None) -> list[float]:
        swept = [cell[name] for cell in self.cells]
        low, high = min(swept), max(max(swept), min(max(swept) * GROWTH[name], target))
        points = np.geomspace(low, high, POINTS.get(len(self.names), FEWEST_POINTS)) if low < high else np.array([low])
        step = batch_tokens if name == "tokens" else None
        if name in WHOLE and all(value.is_integer() for value in swept):
            step = float(math.gcd(*(int(value) for value in swept)))
        rounded = {_rounded(float(value), step) for value in points}
        return sorted(value for value in rounded if value < target * (1 - SAME) or value <= max(swept))

    def _fed(self, scale: Mapping[str, float], target: Mapping[str, float]) -> bool:
        """Whether tokens a parameter are near those of the cells or of the target."""
        count = next((name for name in COMPUTES if name in self.names), None)
        if count is None or "tokens" not in self.names:
            return True
        diets = [at["tokens"] / at[count] for at in (*self.cells, target)]
        return min(diets) / OFF_DIAGONAL <= scale["tokens"] / scale[count] <= max(diets) * OFF_DIAGONAL

    def _swept(self, scale: Mapping[str, float]) -> bool:
        return any(all(abs(scale[n] / cell[n] - 1) < SAME for n in self.names) for cell in self.cells)

    def _design(self, scales: Sequence[Mapping[str, float]]) -> Array:
        return np.array([[1.0, *(math.log(scale[name]) for name in self.names)] for scale in scales])


def _rounded(value: float, step: float | None) -> float:
    """To two digits that read well, or to whole steps where the value is many of them."""
    readable = float(f"{value:.2g}")
    if step is None:
        return readable
    return max(round((value if value < 100 * step else readable) / step), 1) * step
