"""What every test may use: a spec of any size in a line, a corpus that needs no file, the house's shared data."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from scalelab.parametrizations import table
from scalelab.shape import Architecture, Shape
from scalelab.spec import DataSpec, Horizon, Hparams, RunSpec

ROOT = Path(__file__).resolve().parents[1]


def make_shape(width: int, depth: int = 2, *, ffn_ratio: Fraction | int = 4, **sizes: int) -> Shape:
    heads = sizes.pop("heads", max(1, width // 16))
    return Shape(
        **{
            "vocab": 256, "context": 16, "width": width, "depth": depth, "heads": heads, "kv_heads": heads,
            "ffn": int(ffn_ratio * width), **sizes,
        }
    )  # fmt: skip


def make_spec(
    parametrization: str = "mup",
    *,
    width: int = 64,
    depth: int = 2,
    base_width: int = 32,
    base_depth: int = 2,
    optimizer: str = "adamw",
    model: str = "transformer",
    architecture: Architecture | None = None,
    hparams: dict[str, Any] | None = None,
    tokens: int = 640,
    seed: int = 0,
    schedule: str = "linear",
    sizes: dict[str, int] | None = None,
    base_sizes: dict[str, int] | None = None,
    data: DataSpec | None = None,
    **rest: Any,
) -> RunSpec:
    return RunSpec(
        parametrization=parametrization,
        optimizer=optimizer,
        model=model,
        architecture=architecture or Architecture(mlp="gelu"),
        shape=make_shape(width, depth, **(sizes or {})),
        base=Shape.unit()
        if table(parametrization).unit_scaled
        else make_shape(base_width, base_depth, **(base_sizes or sizes or {})),
        hparams=Hparams(**{"lr": 0.01, "weight_decay": 0.1, **(hparams or {})}),
        horizon=Horizon(tokens=tokens, batch_tokens=64, schedule=schedule),
        data=data
        or DataSpec(name="embedded", sha256=_embedded(), vocab=256, bytes_per_token=1.0, validation_tokens=256),
        seed=seed,
        **rest,
    )


def _embedded() -> str:
    from scalelab import data

    return data.load("embedded").sha256


@pytest.fixture(scope="session")
def published() -> Path:
    """Published sweep data, kept outside the project: $SCALELAB_DATA, or ../shared/data beside the checkout."""
    folder = Path(os.environ.get("SCALELAB_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"published data not found in {folder}: set SCALELAB_DATA")
    return folder
