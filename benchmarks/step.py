"""Time of a training step: what the trainer does beside the ways it does not, as ratios of paired rounds.

Variants take turns round by round, so that a machine that changes its speed changes it for all of them; the figure to
read is the median of the paired ratios, not a single time. `python benchmarks/step.py [ROUNDS]`
"""

import statistics
import sys
import time
from collections.abc import Callable
from fractions import Fraction

import torch

from scalelab.models import count_flops_per_token
from scalelab.networks import build
from scalelab.optim import optimizers, parameter_groups
from scalelab.resolve import settings
from scalelab.shape import Architecture, Shape
from scalelab.spec import DataSpec, Horizon, Hparams, RunSpec

STEPS = 5


def spec(width: int, mlp: str = "swiglu") -> RunSpec:
    ratio = Fraction(8, 3) if mlp == "swiglu" else 4

    def shape(at: int) -> Shape:
        ffn = round(ratio * at / 8) * 8
        return Shape(vocab=256, context=64, width=at, depth=2, heads=at // 32, kv_heads=at // 32, ffn=ffn)

    return RunSpec(
        parametrization="mup",
        optimizer="adamw",
        architecture=Architecture(mlp=mlp),  # type: ignore[arg-type]
        shape=shape(width),
        base=shape(32),
        hparams=Hparams(lr=0.01),
        horizon=Horizon(tokens=51200, batch_tokens=512),
        data=DataSpec(name="none", sha256="", vocab=256, bytes_per_token=1.0, validation_tokens=64),
        seed=0,
    )


def stepper(width: int, *, fused: bool = True, mlp: str = "swiglu") -> Callable[[], None]:
    run = spec(width, mlp)
    network = build(run)
    (optim,) = optimizers(network, run)
    if not fused:
        optim = torch.optim.AdamW(parameter_groups(network, settings(run)), betas=(0.9, 0.95))
    tokens = torch.randint(0, 256, (run.sequences, run.shape.context + 1))

    def step() -> None:
        loss = network.loss(tokens)
        optim.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optim.step()

    step()
    return step


def timed(step: Callable[[], None]) -> float:
    start = time.process_time()
    for _ in range(STEPS):
        step()
    return (time.process_time() - start) / STEPS


def main(rounds: int) -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, 8 sequences of 64 tokens, depth 2, {rounds} rounds; ms are CPU time")
    print(f"{'width':>5} {'step ms':>8} {'GFLOP/s':>8} {'loop AdamW ×':>13} {'GELU MLP ×':>11}")
    for width in (32, 64, 128, 256):
        variants = [stepper(width), stepper(width, fused=False), stepper(width, mlp="gelu")]
        times = [[timed(step) for step in variants] for _ in range(rounds)]
        ours = min(row[0] for row in times)
        loop, gelu = (statistics.median(row[i] / row[0] for row in times) for i in (1, 2))
        run = spec(width)
        flops = count_flops_per_token(run).six_n_attention * run.horizon.batch_tokens
        print(f"{width:>5} {1e3 * ours:>8.2f} {flops / ours / 1e9:>8.1f} {loop:>13.2f} {gelu:>11.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
