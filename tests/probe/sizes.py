"""Specs of one configuration at several sizes, as the checks take them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scalelab.optimizers import OPTIMIZERS
from scalelab.parametrizations import table
from scalelab.probe import check_lr
from scalelab.shape import Architecture
from scalelab.spec import RunSpec
from tests.conftest import make_spec

BATCH_SEQUENCES = 8
CONTEXT = 32


def specs(
    parametrization: str,
    axis: str,
    values: Sequence[int],
    *,
    seeds: int = 2,
    steps: int = 8,
    width: int = 32,
    depth: int = 2,
    architecture: Architecture | None = None,
    hparams: dict[str, Any] | None = None,
    optimizer: str = "adamw",
    **rest: Any,
) -> list[list[RunSpec]]:
    """A spec a size and seed; the smallest size is the base, head_dim 32 fixed, the lr that of the check."""
    momentum = {"muon": 0.95, "adamw_muon": 0.95, "sgd": 0.9}.get(optimizer, 0.0)
    damping = 1e-3 if optimizer == "shampoo_half" else 1e-8  # as conf/optimizer has them
    smallest = width if axis == "depth" else values[0]
    unit = table(parametrization).unit_scaled
    given = architecture or Architecture(norm_gains="none" if unit else "vector")

    def spec(value: int, seed: int) -> RunSpec:
        made = make_spec(
            parametrization,
            width=value if axis == "width" else width,
            base_width=smallest,
            depth=value if axis == "depth" else depth,
            base_depth=values[0] if axis == "depth" else depth,
            seed=seed,
            optimizer=optimizer,
            schedule="wsd" if OPTIMIZERS[optimizer].then else "constant",
            hparams={"weight_decay": 0.0, "momentum": momentum, "damping": damping, **(hparams or {})},
            sizes={"context": CONTEXT, "heads": (value if axis == "width" else width) // 32},
            base_sizes={"context": CONTEXT, "heads": smallest // 32},
            architecture=given,
            tokens=64 * steps,
            **rest,
        )
        horizon = replace(made.horizon, batch_tokens=BATCH_SEQUENCES * CONTEXT, warmup_fraction=0.0,
                          tokens=BATCH_SEQUENCES * CONTEXT * steps)  # fmt: skip
        found = replace(made, horizon=horizon)
        return found if "lr" in (hparams or {}) else replace(
            found, hparams=replace(found.hparams, lr=check_lr(found))
        )  # fmt: skip

    return [[spec(value, seed) for seed in range(seeds)] for value in values]
