"""What a projected setting costs where the truth is known: the joint fit beside two stages, over shapes of valleys.

Each study has its own exponents, scatter between scales and noise; its grid is off centre by up to half an octave. The
target is three to ten times the largest scale. The model's own shape is one of six, so this also says what its misfit
costs. `python benchmarks/settings.py [STUDIES]`, about a second a study.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scalelab.laws.checked import checked
from scalelab.laws.joint.fit import fit_joint
from scalelab.laws.optima.cells import groups, swept_scales
from scalelab.laws.optima.two_stage import two_stage

SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "parabola": lambda x: x**2 / 2,
    "twice as steep above": lambda x: np.where(x > 0, 2, 1) * x**2 / 2,
    "cosh": lambda x: np.cosh(x) - 1,
    "linex": lambda x: (np.exp(0.9 * x) - 1 - 0.9 * x) / 0.81,
    "flat above, then steep": lambda x: np.where(x < 0, x**2 / 2, 1.5 * np.maximum(x - 0.4, 0) ** 2),
    "straight sides": lambda x: np.sqrt(1 + x**2) - 1,
}
FIVE = ((1e7, 2e8), (3e7, 6e8), (1e8, 2e9), (1e8, 8e9), (3e8, 6e9))
DESIGNS = {
    "5 scales, 5 lrs": (FIVE, (2.6e5,), 0),
    "ladder at D = 20N": (tuple((n, 20 * n) for n in (1e7, 3e7, 1e8, 3e8)), (2.6e5,), 0),
    "5 scales × 4 batches": (FIVE, (6.5e4, 1.3e5, 2.6e5, 5.2e5), 0),
    "grids an octave low": (FIVE, (2.6e5,), -1),
}
TARGET = {"params_non_embedding": 1e9, "tokens": 2e10}
HEIGHT, BATCH_HEIGHT, NOISE, SCATTER = 0.016, 0.012, 1e-3, 0.08  # relative losses; ln setting


@dataclass(frozen=True, kw_only=True)
class Truth:
    """ln of the best lr = level + Σ exponents · ln(scale), and of the best batch."""

    lr: tuple[float, float, float]
    batch: tuple[float, float]

    def log_lr(self, n: float, d: float, batch: float) -> float:
        a, b, g = self.lr
        return float(np.log(2e-3) + a * np.log(n / 1e8) + b * np.log(d / 1e10) + g * np.log(batch / 2.6e5))

    def log_batch(self, n: float, d: float) -> float:
        return float(np.log(2.6e5) + self.batch[0] * np.log(n / 1e8) + self.batch[1] * np.log(d / 1e10))


def sweep(rng: np.random.Generator, shape: str, design: str) -> tuple[pd.DataFrame, Truth]:
    """The runs of one study: 5 learning rates an octave apart about the truth, for every scale and batch."""
    cells, batches, shift = DESIGNS[design]
    truth = Truth(
        lr=(rng.normal(-0.45, 0.2), rng.normal(0.05, 0.12), rng.normal(0.35, 0.1)),
        batch=(rng.normal(-0.05, 0.08), rng.normal(0.45, 0.1)),
    )
    rows, off = [], rng.uniform(-0.5, 0.5)
    for n, d in cells:
        level = 1.7 + 400 / n**0.34 + 1500 / d**0.36
        own_lr, own_batch = SCATTER * rng.standard_normal(2)
        for batch in batches:
            best = truth.log_lr(n, d, batch) + own_lr
            from_batch = np.log(batch) - truth.log_batch(n, d) - own_batch if len(batches) > 1 else 0.0
            for k in range(-2 + shift, 3 + shift):
                log2_lr = np.round(best / np.log(2) + off) + k
                height = HEIGHT * SHAPES[shape](np.array(log2_lr * np.log(2) - best)) + BATCH_HEIGHT * from_batch**2 / 2
                rows.append((n, d, batch, 2.0**log2_lr, level * np.exp(height + NOISE * rng.standard_normal())))
    names = ["params_non_embedding", "tokens", "batch_tokens", "lr", "loss_nats"]
    return pd.DataFrame(rows, columns=names), truth


def study(rng: np.random.Generator, shape: str, design: str) -> tuple[float, float, bool]:
    """Excess loss in per cent at the target by the joint fit and by two stages, and whether the interval held."""
    table, truth = sweep(rng, shape, design)
    found = fit_joint(checked(table), rng=rng, draws=300, profiles=False).predict(**TARGET).values
    batch = found["batch_tokens"].value if "batch_tokens" in found else 2.6e5
    best = truth.log_lr(*TARGET.values(), batch)
    cost = HEIGHT * float(SHAPES[shape](np.array(np.log(found["lr"].value) - best)))
    if "batch_tokens" in found:
        cost += BATCH_HEIGHT * (np.log(batch) - truth.log_batch(*TARGET.values())) ** 2 / 2
    held = found["lr"].low <= np.exp(best + SCATTER * rng.standard_normal()) <= found["lr"].high
    scales = swept_scales(table)
    plain = two_stage(groups(table, scales=scales)[0], scales=scales, draws=100).fits.get("power_params")
    if plain is None:
        return 100 * cost, float("nan"), held
    at = {**TARGET, "batch_tokens": batch}
    lr = plain.predict(**{name: at[name] for name in plain.reference}).value
    return 100 * cost, 100 * HEIGHT * float(SHAPES[shape](np.array(np.log(lr) - best))), held


def main(studies: int) -> None:
    print(f"{'valley':24}{'design':24}{'joint':>9}{'two stages':>12}{'ratio':>8}{'in interval':>13}")
    for shape in SHAPES:
        for design in DESIGNS:
            rows = [study(np.random.default_rng([k, len(design)]), shape, design) for k in range(studies)]
            joint, plain = np.nanmean([[a, b] for a, b, _ in rows], axis=0)
            held = np.mean([inside for *_, inside in rows])
            print(f"{shape:24}{design:24}{joint:8.4f}%{plain:11.4f}%{plain / joint:8.2f}{held:12.0%}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
