"""Synthetic sweeps whose optima and exponents are known."""

from typing import Any

import numpy as np
import pandas as pd

from scalelab.laws.optima.cells import groups, swept_scales
from scalelab.laws.optima.two_stage import TwoStage, two_stage

WIDTHS = (128, 256, 512, 1024)


def sweep(
    rng: np.random.Generator,
    *,
    widths: tuple[int, ...] = WIDTHS,
    log2_lrs: tuple[float, ...] = tuple(range(-10, -3)),
    seeds: int = 3,
    centre: float = -7.2,
    exponent: float = -0.4,
    noise_nats: float = 0.004,
    offset_nats: float = 0.004,
    curvature: float = 0.04,
    skewness: float = 0.1,
    scatter: float = 0.0,
    diverged_from: float = np.inf,
    kinked: bool = False,
    **columns: object,
) -> pd.DataFrame:
    """Valleys curvature·(u² + skewness·u³), or parabolas twice as steep above; a seed adds its offset at every LR."""
    rows = []
    for width in widths:
        optimum = centre + exponent * np.log2(width / widths[0]) + scatter * rng.standard_normal()
        offset_S = offset_nats * rng.standard_normal(seeds)
        for log2_lr in log2_lrs:
            u = log2_lr - optimum
            rise = curvature * u**2 * ((2 if u > 0 else 1) if kinked else max(1 + skewness * u, 0.3))
            for seed in range(seeds):
                stable = log2_lr < diverged_from
                loss = 3.5 - 0.1 * np.log2(width / 128) + rise + offset_S[seed] + noise_nats * rng.standard_normal()
                rows.append(
                    {
                        "run": f"w{width}-{log2_lr}-{seed}",
                        "parametrization": "mup",
                        "optimizer": "adamw",
                        "data": "c4",
                        "width": width,
                        "depth": 4,
                        "params_non_embedding": 48 * width**2,
                        "tokens": 10**8,
                        "batch_tokens": 65536,
                        "lr": 2.0**log2_lr,
                        "weight_decay": 0.1,
                        "seed": seed,
                        "loss_nats": loss if stable else np.nan,
                        "outcome": "OK" if stable else "DIVERGED",
                        "cost_flops": 1e15,
                    }
                    | columns
                )
    return pd.DataFrame(rows)


def true_log2_lr(width: float, *, centre: float = -7.2, exponent: float = -0.4) -> float:
    return float(centre + exponent * np.log2(width / WIDTHS[0]))


def stages(table: pd.DataFrame, *, place: int = 0, **options: Any) -> TwoStage:
    """The two-stage fit of one of a table's groups, without what a whole study adds to it."""
    scales = swept_scales(table)
    return two_stage(groups(table, scales=scales)[place], scales=scales, **options)
