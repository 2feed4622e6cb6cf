"""Which runs are one program, and how many of them to train together: known from their specs, without torch."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from scalelab.models import count_params
from scalelab.parametrizations import table
from scalelab.resolve import multipliers
from scalelab.shape import Architecture, Shape
from scalelab.spec import RunSpec

# Members of a population on a CPU core, up to a width: small networks are mostly calls of small operations, which a
# stack shares; wide ones fill the core's caches alone. Measured by benchmarks/population.py, 512 tokens a step.
CPU_MEMBERS = ((96, 8), (160, 4), (512, 2))
CPU_TOKENS = 4096  # a step of this many tokens, over all members, has work enough for any width
GPU_MEMBERS = 256  # assumed: beyond it launches are no longer what a step waits for
GPU_SHARE = 0.8  # of the free memory, the rest being the allocator's and the kernels' workspaces


@dataclass(frozen=True, kw_only=True)
class Program:
    """What members of a population have in common: the same tensors, the same operations on them.

    They may differ in learning rate, weight decay, multipliers, init, betas, clipping, schedule, horizon, seed, and in
    the parametrization itself as far as it fixes the same two constants of the program.
    """

    model: str
    architecture: Architecture
    shape: Shape
    unit_scaled: bool
    optimizer: str
    sequences: int
    attention_site: float
    residual_site: float
    auxiliary: tuple[bool, bool]
    data: tuple[str, int, int | None]
    dtype: str


def program(spec: RunSpec) -> Program:
    """The program that trains a spec."""
    sites = multipliers(spec)
    return Program(
        model=spec.model,
        architecture=spec.architecture,
        shape=spec.shape,
        unit_scaled=table(spec.parametrization).unit_scaled,
        optimizer=spec.optimizer,
        sequences=spec.sequences,
        attention_site=sites.attention_site,
        residual_site=sites.residual_site,
        auxiliary=(spec.hparams.z_loss > 0, spec.hparams.balance_loss > 0),
        data=(spec.data.sha256, spec.data.validation_tokens, spec.data.unique_tokens),
        dtype=spec.dtype,
    )


def by_program(specs: Iterable[RunSpec]) -> dict[Program, list[int]]:
    """The positions of these specs by program, in their order."""
    found: dict[Program, list[int]] = {}
    for index, spec in enumerate(specs):
        found.setdefault(program(spec), []).append(index)
    return found


def members(spec: RunSpec, *, free_bytes: int | None = None) -> int:
    """How many runs of that program to train as one population.

    Args:
        spec: one of them.
        free_bytes: the free memory of the GPU; None for one core of a CPU.
    """
    tokens = spec.horizon.batch_tokens
    if spec.command is not None:
        return 1
    if free_bytes is not None:
        return max(1, min(GPU_MEMBERS, int(GPU_SHARE * free_bytes / member_bytes(spec))))
    fits = max(1, CPU_TOKENS // tokens)
    return next((min(most, fits) for width, most in CPU_MEMBERS if spec.shape.width <= width), 1)


def member_bytes(spec: RunSpec) -> int:
    """About the memory of one member in training: weights, gradients, two moments, and a step's activations."""
    shape, element = spec.shape, 2 if spec.dtype == "bfloat16" else 4
    # What the backward pass keeps: per block the inputs of its matrices, norms and nonlinearity; the logits thrice.
    kept = shape.depth * (10 * shape.width + 4 * shape.ffn * shape.top_k) * element + 12 * shape.vocab
    return 16 * count_params(spec).total + math.ceil(1.5 * kept * spec.horizon.batch_tokens)
