"""Laws as tables, for the console and for CSV files."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from scalelab.laws.fitted import Fit
from scalelab.laws.optima.optimum import Optimum
from scalelab.laws.study import Laws


def tables(laws: Laws) -> dict[str, pd.DataFrame]:
    """The laws as two tables for the console or a CSV: "optima" (a row a cell) and "exponents" (a row an estimate).

    LRs are peak LRs, `*_octaves` and exponents' residuals are in log2 LR, losses in nats; z is (measured - theory)/sd.
    """
    optimum_rows, exponent_rows = [], []
    for group in laws.groups:
        for o in group.optima:
            optimum_rows.append({**group.key, **o.scale, **_optimum_row(o)})
        for name, fitted in [*group.lr_fits.items(), *group.setting_fits.items(), *group.loss_fits.items()]:
            exponent_rows += [{**group.key, "law": name, **row} for row in _exponent_rows(fitted, laws.theory)]
    return {"optima": pd.DataFrame(optimum_rows), "exponents": pd.DataFrame(exponent_rows)}


def _optimum_row(o: Optimum) -> dict[str, Any]:
    return {
        "status": o.status,
        "lr": o.lr,
        "lr_low": o.lr_low,
        "lr_high": o.lr_high,
        "log2_lr": o.log2_lr,
        "sd_octaves": o.sd_octaves,
        "loss_nats": o.loss_nats,
        "curvature_below": o.curvature_below,
        "curvature_above": o.curvature_above,
        "lr_stable": o.lr_stable,
        "noise_nats": o.noise.sd_nats,
        "noise_source": o.noise.source,
        "n_runs": o.n_runs,
        "n_diverged": o.n_diverged,
        "advice": o.advice,
    }


def _exponent_rows(fitted: Fit, theory: Mapping[str, float]) -> list[dict[str, Any]]:
    rows = []
    for name, estimate in fitted.estimates.items():
        held = fitted.law.name != "constant" and name in fitted.reference and fitted.law.output == "lr"
        against = theory.get(name) if held else None
        rows.append(
            {
                "parameter": name,
                "value": estimate.value,
                "low": estimate.low,
                "high": estimate.high,
                "sd": estimate.sd,
                "theory": against,
                "z": None if against is None else estimate.z(against),
                "theory_inside": None if against is None else estimate.contains(against),
                "n": fitted.n,
                "scatter": fitted.scatter,
                "hold_out_octaves": None if fitted.hold_out is None else fitted.hold_out.error_octaves,
                "hold_out_nats": None if fitted.hold_out is None else fitted.hold_out.excess_nats,
                "status": fitted.status,
            }
        )
    return rows
