"""Ways to train at a scale: grids of learning rate, batch and weight decay about the predicted optimum."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from scalelab.laws.design.of_joint import Linear
from scalelab.laws.design.settings import LEAST_SIDE, ladder

SEEDS = (1, 2, 3)
WIDER = (0, 1)
SDS = 2.0  # to either side of the prediction
COVARIATE_BATCHES = 3  # tried, where batches differ between scales and not within them


@dataclass(frozen=True, kw_only=True)
class Way:
    """A product of settings and seeds; `richness` orders ways of one batch choice, see `search.Option`."""

    lrs: tuple[float, ...]
    batch_tokens: tuple[float, ...]
    weight_decays: tuple[float, ...]
    seeds: int
    richness: tuple[int, ...]

    @property
    def n_runs(self) -> int:
        return math.prod(max(len(v), 1) for v in (self.lrs, self.batch_tokens, self.weight_decays)) * self.seeds

    @property
    def rows(self) -> list[dict[str, float]]:
        """Every setting, once."""
        every = {"lr": self.lrs, "batch_tokens": self.batch_tokens, "weight_decay": self.weight_decays}
        given = {name: values for name, values in every.items() if values}
        return [dict(zip(given, values, strict=True)) for values in itertools.product(*given.values())]


def ways(model: Linear, scale: Mapping[str, float], *, of: str) -> list[Way]:
    """Ways to find `of` at a scale; the learning rate is always swept, where it has a valley."""
    found = []
    for choice, given in enumerate(_batches(model)):
        for wider, seeds in itertools.product(WIDER, SEEDS):
            batch = _grid(model, "batch_tokens", scale, given, wider) or ((given,) if given else ())
            decays = _decays(model, scale, given, wider if of == "tau" else None)
            way = Way(
                lrs=_grid(model, "lr", scale, given, wider), batch_tokens=batch, weight_decays=decays, seeds=seeds,
                richness=(wider, seeds, choice, -choice),  # ways of different batches are not ordered
            )  # fmt: skip
            found.append(way)
    return found


def tuned(model: Linear | None, scale: Mapping[str, float]) -> Way:
    """One observation of the best loss: a narrow grid about the predicted optimum, or one run where none is known."""
    if model is None:
        return Way(lrs=(), batch_tokens=(), weight_decays=(), seeds=1, richness=(0,))
    return ways(model, scale, of=next(iter(model.joint.coordinates)))[0]


def _batches(model: Linear) -> list[float | None]:
    """Batches to train with where they have no valley: along their range where they differ, else the one there is."""
    joint = model.joint
    if "batch_tokens" in joint.coordinates or "batch_tokens" not in joint.domain:
        return [None]
    low, high = joint.domain["batch_tokens"]
    if low == high:
        return [low]
    steps = range(COVARIATE_BATCHES)
    return [low * 2 ** round(math.log2(high / low) * k / (COVARIATE_BATCHES - 1)) for k in steps]


def _grid(model: Linear, name: str, scale: Mapping[str, float], given: float | None, wider: int) -> tuple[float, ...]:
    if name not in model.joint.coordinates:
        return ()
    found = model.optimum(name, scale, batch_tokens=given)
    unit = model.joint.domain["batch_tokens"][0] if name == "batch_tokens" else 1.0
    reach = max(SDS * model.spread_octaves(found), LEAST_SIDE)
    return ladder(math.exp(found.log), reach, wider=wider, unit=unit, whole=name == "batch_tokens")


def _decays(model: Linear, scale: Mapping[str, float], given: float | None, wider: int | None) -> tuple[float, ...]:
    """Weight decays at the predicted time scale: a grid where it is asked for, else the best one."""
    if "tau" not in model.joint.coordinates:
        return ()
    found = model.optimum("tau", scale, batch_tokens=given)
    log_lr = model.optimum("lr", scale, batch_tokens=given).log
    log_batch = math.log(given) if given else model.optimum("batch_tokens", scale, batch_tokens=None).log
    best = math.exp(log_batch - log_lr - found.log - math.log(scale["tokens"]))
    if wider is None:
        return (float(f"{best:.2g}"),)
    return ladder(best, SDS * model.spread_octaves(found), wider=wider, unit=0.1)
