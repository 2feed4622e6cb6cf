"""Laws of runs whose learning rate, batch and weight decay were all swept over width and tokens; the truth is known."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scalelab.laws import Laws, fit
from scalelab.laws.law import Array
from scalelab.models import count_params
from scalelab.readers import read
from scalelab.spec import RunSpec
from tests.conftest import make_spec
from tests.helpers import write_trial
from tests.recommend.simulated import fitted

TOKENS = (20480, 81920)
SKEW = 0.4


def best(spec: RunSpec) -> dict[str, float]:
    """ln of the best learning rate (at the run's batch), batch and τ of a run's scale."""
    longer = math.log(spec.horizon.tokens / TOKENS[0])
    larger = math.log(count_params(spec).non_embedding / 1e5)
    return {
        "lr": math.log(2**-6) - 0.1 * longer + 0.4 * math.log(spec.horizon.batch_tokens / 128),
        "batch_tokens": math.log(128) + 0.5 * longer,
        "tau": math.log(0.3) - 0.5 * longer + 0.25 * larger,
    }


def settings_of(spec: RunSpec) -> dict[str, float]:
    horizon, hparams = spec.horizon, spec.hparams
    tau = horizon.batch_tokens / (hparams.lr * hparams.weight_decay * horizon.tokens)
    return {"lr": math.log(hparams.lr), "batch_tokens": math.log(horizon.batch_tokens), "tau": math.log(tau)}


def linex(x: float) -> float:
    return (math.exp(SKEW * x) - 1 - SKEW * x) / SKEW**2


def loss(spec: RunSpec, noise: float = 0.0) -> float:
    there, at = best(spec), settings_of(spec)
    excess = sum(k * linex(at[q] - there[q]) for q, k in (("lr", 0.03), ("batch_tokens", 0.012), ("tau", 0.015)))
    level = 1.8 + 8 / count_params(spec).non_embedding ** 0.15 + 12 / spec.horizon.tokens**0.3
    return float(level * math.exp(excess + noise))


def runs(
    widths: tuple[int, ...] = (32, 64, 128), tokens: tuple[int, ...] = TOKENS, name: str = "mup", policy: str = "table"
) -> Iterator[RunSpec]:
    """Every run its own base of the horizon."""
    for width in widths:
        for length in tokens:
            grid = [(2.0**lr, batch, 1.0) for lr in range(-8, -3) for batch in (64, 128, 256, 512)]
            grid += [(2.0**-6, 128, off) for off in (0.25, 0.5, 2.0, 4.0)]
            for lr, batch, off in grid:
                spec = make_spec(name, width=width, tokens=length, weight_decay_policy=policy)
                decay = batch / (lr * 0.3 * off * length)
                yield replace(
                    spec, horizon=replace(spec.horizon, batch_tokens=batch),
                    hparams=replace(spec.hparams, lr=lr, weight_decay=decay),
                )  # fmt: skip


def laws_of(folder: Path, specs: Iterable[RunSpec]) -> Laws:
    """The joint law of runs and one of the loss."""
    noise_N: Array = 0.001 * np.random.default_rng(0).standard_normal(1000)
    for spec, noise in zip(specs, noise_N, strict=False):
        write_trial(folder, spec, loss(spec, float(noise)))
    found = read([folder])
    names = ("parametrization", "optimizer", "data")
    group = replace(fitted(found.table), key={name: str(found.table[name].iloc[0]) for name in names}, lr_fits={})
    best_runs = found.table.loc[found.table.groupby(["width", "tokens"])["loss_nats"].idxmin()]
    laws = {"kaplan": fit(best_runs, "kaplan", draws=200)} if len(best_runs) > 4 else {}
    return Laws(
        groups=[replace(group, loss_fits=laws, loss_scores=())], theory={}, seed=0, draws=300,
        template=found.template, sources=list(found.sources), conventions={},
    )  # fmt: skip


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Laws:
    """Laws of 144 runs: of learning rate, batch and τ together, and of the loss."""
    return laws_of(tmp_path_factory.mktemp("swept"), runs())
