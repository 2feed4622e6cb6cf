"""The compute-optimal size and number of tokens as powers of the budget: what IsoFLOP valleys and envelopes come to."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from scalelab.errors import Refused
from scalelab.laws.checked import checked
from scalelab.laws.columns import NAMES, PARAMS
from scalelab.laws.fitted import Estimate, Fit, Prediction, estimate, stored
from scalelab.laws.forms.designs import COST_FLOPS, log_uniform
from scalelab.laws.forms.powers import power_law
from scalelab.laws.law import Array

EXPONENT = "p_cost_flops"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """One FLOP budget: the size of the lowest loss with its interval, tokens and loss there.

    `status` is INTERIOR, BELOW or ABOVE (the lowest loss is at the smallest or largest size tried, which bounds the
    optimum and does not measure it) or FEW (too few sizes). Where it is not INTERIOR the optimum is None, and `message`
    says what to train. `sizes` is the smallest and the largest size tried.
    """

    cost_flops: float
    status: str
    sizes: tuple[float, float]
    params: Estimate | None = None
    tokens: float | None = None
    loss_nats: float | None = None
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class IsoFlop:
    """N* and D* as powers of the budget C, with the budgets that they rest on.

    `size` is the column that counts parameters. `params` and `tokens` are fits of c·(C/x0)^p with x0 in `reference`.
    """

    method: str
    size: str
    budgets: tuple[Budget, ...]
    params: Fit
    tokens: Fit
    status: str
    warnings: tuple[str, ...]

    @property
    def params_exponent(self) -> Estimate:
        """a of N* ∝ C^a."""
        return self.params.estimates[EXPONENT]

    @property
    def tokens_exponent(self) -> Estimate:
        """b of D* ∝ C^b; a + b = 1 where C = 6·N·D."""
        return self.tokens.estimates[EXPONENT]

    @property
    def params_coefficient(self) -> float:
        """G of N* = G·C^a: N* at one FLOP, far outside any domain."""
        return _at_one_flop(self.params)

    @property
    def tokens_coefficient(self) -> float:
        """H of D* = H·C^b."""
        return _at_one_flop(self.tokens)

    def predict(self, *, cost_flops: float) -> dict[str, Prediction]:
        """Best size and tokens at a budget, by the columns' names, with 95 % intervals.

        Raises:
            Refused: unless the budget is a finite number > 0.
        """
        return {
            self.size: self.params.predict(cost_flops=cost_flops),
            "tokens": self.tokens.predict(cost_flops=cost_flops),
        }

    def summary(self) -> str:
        """Exponents, budgets and warnings in a few lines of text."""
        a, b = self.params_exponent, self.tokens_exponent
        rows = [
            f"  {at.cost_flops:.3g} FLOPs: "
            + (f"{self.size} {at.params.value:.4g} [{at.params.low:.3g}, {at.params.high:.3g}], tokens {at.tokens:.4g}"
               if at.params is not None else f"{at.status}: {at.message}")
            for at in self.budgets
        ]  # fmt: skip
        head = f"N* ∝ C^{a.value:.4f} [{a.low:.4f}, {a.high:.4f}], D* ∝ C^{b.value:.4f} [{b.low:.4f}, {b.high:.4f}]"
        return "\n".join([head, *rows, f"  {self.status}", *(f"  warning: {text}" for text in self.warnings)])


def with_cost(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Checked runs that ended well, with cost_flops and tokens (C = 6·N·D gives one of them), and the column of N.

    Raises:
        Refused: on what `checked` refuses, missing columns, or runs of several parametrizations, optimizers or data.
    """
    counts = [name for name in PARAMS if name in table]
    if not counts or not ("tokens" in table or "cost_flops" in table):
        raise Refused(f"best sizes need loss_nats, one of {', '.join(PARAMS)}, and cost_flops or tokens for every run")
    size = counts[0]
    params = pd.to_numeric(table[size], errors="coerce")
    if "tokens" not in table:
        table = table.assign(tokens=pd.to_numeric(table["cost_flops"], errors="coerce") / (6.0 * params))
    if "cost_flops" not in table:
        table = table.assign(cost_flops=6.0 * params * pd.to_numeric(table["tokens"], errors="coerce"))
    runs = checked(table)
    runs = runs[runs["outcome"] == "OK"]
    if runs.empty:
        raise Refused("no run ended well: best sizes need losses; rerun with a lower learning rate")
    if several := [name for name in NAMES if runs[name].nunique() > 1]:
        raise Refused(f"runs of several {several[0]}: best sizes are of one; give the rows of one of them")
    if not (np.isfinite(runs["cost_flops"]) & (runs["cost_flops"] > 0)).all():
        raise Refused("cost_flops is empty or ≤ 0 in some rows: accepted is a finite number > 0")
    return runs, size


def power_of_cost(
    output: str, log_C: Array, log_y: Array, weight: Array, coefficients_D2: Array, *, scatter: float, source: str
) -> Fit:
    """y = c·(C/x0)^p by weighted least squares in logarithms.

    Args:
        output: the column of y.
        log_C: ln of the budgets.
        log_y: ln of the optimum at each.
        weight: of each.
        coefficients_D2: draws of (ln c, p) at the weighted mean budget.
        scatter: standard deviation of a budget's own optimum from the law, natural log.
        source: how the optima were found, for the status.
    """
    law = power_law(
        name=f"optimal_{output}", output=output, coefficient=1e8, exponents={"cost_flops": 0.5},
        source="Hoffmann et al. (arXiv:2203.15556) sec. 3", design=log_uniform(cost_flops=COST_FLOPS),
    )  # fmt: skip
    centre = float(np.average(log_C, weights=weight))
    log_c, slope = line(log_C - centre, log_y[None], weight)[0]
    residual = log_y - log_c - slope * (log_C - centre)
    dof = max(len(log_C) - 2, 1)
    tails_D = stats.t.ppf((np.arange(len(coefficients_D2)) + 0.5) / len(coefficients_D2), dof)
    scatter_D = scatter / math.log(2) * np.random.default_rng(0).permutation(tails_D)
    return Fit(
        law=law,
        estimates={
            "c": estimate(math.exp(log_c), np.exp(coefficients_D2[:, 0])),
            EXPONENT: estimate(slope, coefficients_D2[:, 1]),
        },
        reference={"cost_flops": math.exp(centre)},
        domain={"cost_flops": (math.exp(log_C.min()), math.exp(log_C.max()))},
        residuals=tuple(float(r) / math.log(2) for r in residual),
        scatter=scatter / math.log(2),
        n=len(log_C),
        hold_out=None,
        status=source,
        draws=stored({"c": np.exp(coefficients_D2[:, 0]), EXPONENT: coefficients_D2[:, 1], "scatter": scatter_D}),
        columns={"cost_flops": "cost_flops"},
    )


def line(x: Array, y_DB: Array, weight: Array) -> Array:
    """Intercept and slope (D, 2) of weighted least squares, at x = 0."""
    share = weight / weight.sum()
    x_mean, y_mean_D = share @ x, y_DB @ share
    slope_D = (y_DB - y_mean_D[:, None]) @ (share * (x - x_mean)) / (share @ (x - x_mean) ** 2)
    return np.stack([y_mean_D - slope_D * x_mean, slope_D], axis=-1)


def _at_one_flop(fit: Fit) -> float:
    return float(fit.estimates["c"].value * fit.reference["cost_flops"] ** -fit.estimates[EXPONENT].value)
