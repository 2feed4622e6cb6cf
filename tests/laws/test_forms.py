"""The registered forms: each finds its synthetic data again, derivatives are exact, published numbers are theirs."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares

from scalelab.errors import Refused
from scalelab.laws import forms
from scalelab.laws.columns import DERIVED, UNITS
from scalelab.laws.forms import LAWS, PUBLISHED
from scalelab.laws.forms.muennighoff import MUENNIGHOFF
from scalelab.laws.law import Array, Law

NOISE = 0.002
RUNS = 120


def typical(law: Law) -> dict[str, float]:
    return {name: parameter.typical for name, parameter in law.parameters.items()}


def planned(law: Law, seed: int = 1, n: int = RUNS) -> dict[str, Array]:
    assert law.design is not None
    return law.design(np.random.default_rng(seed), n)


def to_fitted(law: Law, parameters: dict[str, Array]) -> Array:
    """Coordinates in which a fit moves, (..., P): logarithms of positive parameters."""
    columns = [np.log(parameters[name]) if p.positive else parameters[name] for name, p in law.parameters.items()]
    return np.stack(columns, axis=-1)


def from_fitted(law: Law, x: Array) -> dict[str, Array]:
    return {k: np.exp(x[..., i]) if p.positive else x[..., i] for i, (k, p) in enumerate(law.parameters.items())}


def log_jacobian(law: Law, x_P: Array, inputs: dict[str, Array]) -> Array:
    """Derivatives of log value by fitted coordinates, (N, P), by complex steps."""
    steps_PP = x_P + 1e-30j * np.eye(len(x_P))
    moved = {k: v[:, None] for k, v in from_fitted(law, steps_PP).items()}
    return np.asarray(np.imag(np.log(law.value(moved, inputs))).T / 1e-30)


def polished(law: Law, inputs: dict[str, Array], output: Array) -> tuple[Array, Array, float]:
    """Fitted coordinates, their standard errors and the cost, from the best of the law's starts."""
    assert law.starts is not None
    starts = law.starts(inputs, output)
    assert set(starts) == set(law.parameters)
    assert {v.shape for v in starts.values()} == {(len(starts[next(iter(starts))]),)}
    assert len(next(iter(starts.values()))) <= 1500
    with np.errstate(all="ignore"):
        values_RN = law.value({k: v[:, None] for k, v in starts.items()}, inputs)
        score_R = np.nan_to_num(np.abs(np.log(values_RN / output)).mean(axis=1), nan=np.inf)
    start = to_fitted(law, {k: v[np.argmin(score_R)] for k, v in starts.items()})

    def residuals(x_P: Array) -> Array:
        with np.errstate(all="ignore"):
            log_ratio_N = np.log(law.value(from_fitted(law, x_P), inputs) / output)
        return np.nan_to_num(log_ratio_N, nan=1e3, posinf=1e3, neginf=-1e3)

    def slopes(x_P: Array) -> Array:
        return log_jacobian(law, x_P, inputs)

    fit = least_squares(residuals, start, jac=slopes, x_scale="jac", method="lm", max_nfev=4000, xtol=1e-12)
    variance = 2 * fit.cost / (len(output) - len(fit.x))
    covariance = np.linalg.pinv(fit.jac.T @ fit.jac, rcond=1e-18) * variance
    return fit.x, np.sqrt(np.diag(covariance)), 2 * fit.cost


@pytest.mark.parametrize("name", LAWS)
def test_finds_its_own_synthetic_data_again(name: str):
    """The optimum from the starts is as good as the truth, and the truth lies within 5 standard errors of it."""
    law = LAWS[name]
    inputs = planned(law)
    noise = NOISE * np.random.default_rng(2).standard_normal(RUNS)
    output = law.value(typical(law), inputs) * np.exp(noise)
    x_P, error_P, cost = polished(law, inputs, output)
    assert cost <= np.sum(noise**2) * 1.0001
    truth_P = to_fitted(law, {k: np.array(v) for k, v in typical(law).items()})
    assert np.all(np.abs(x_P - truth_P) < 1e-6 + 5 * error_P)


@pytest.mark.parametrize("name", [n for n, law in LAWS.items() if law.derivatives])
def test_derivatives_are_those_of_complex_steps(name: str):
    law = LAWS[name]
    inputs = planned(law, n=7)
    assert law.derivatives is not None
    spread = 1 + 0.1 * np.random.default_rng(3).standard_normal((2, len(law.parameters)))
    parameters = {k: v * spread[:, [i]] for i, (k, v) in enumerate(typical(law).items())}
    log_value_RN, slope_RNP = law.derivatives(parameters, inputs)
    assert log_value_RN.shape == (2, 7) and slope_RNP.shape == (2, 7, len(parameters))
    assert np.exp(log_value_RN) == pytest.approx(law.value(parameters, inputs), rel=1e-12)
    for row in range(2):
        x_P = to_fitted(law, {k: v[row, 0] for k, v in parameters.items()})
        assert slope_RNP[row] == pytest.approx(log_jacobian(law, x_P, inputs), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("name", LAWS)
def test_is_stated_in_full(name: str):
    law = LAWS[name]
    assert law.name == name
    assert law.source and law.form
    assert {*law.inputs, law.output} <= {*UNITS, *DERIVED}
    values = law.value(typical(law), planned(law))
    assert np.all(np.isfinite(values) & (values > 0))
    assert set(planned(law)) == set(law.inputs)
    if law.output == "loss_nats":
        assert 0.5 < np.median(values) < 12


@pytest.mark.parametrize("name", LAWS)
def test_broadcasts_parameters_over_runs(name: str):
    law = LAWS[name]
    parameters = {k: np.full((3, 1), v) for k, v in typical(law).items()}
    assert law.value(parameters, planned(law, n=5)).shape == (3, 5)
    one = {k: float(v[0]) for k, v in planned(law, n=1).items()}
    assert np.shape(law.value(typical(law), one)) == ()


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_entries_name_the_laws_parameters(name: str):
    entry = PUBLISHED[name]
    assert set(entry.parameters) == set(entry.law.parameters)
    assert entry.source and entry.checked
    assert set(entry.columns) <= set(entry.law.inputs) | {"params"}
    assert set(entry.columns.values()) <= set(UNITS)
    if any(math.isnan(value) for value in entry.parameters.values()):
        assert "exponent" in entry.note


@pytest.mark.parametrize(
    ("name", "inputs", "expected", "within"),
    [
        # Step Law (arXiv:2503.04715): 1.79·10^(-9·0.713 + 11·0.307), 0.58·10^(11·0.571)
        ("step_law_lr/step_law", {"params": 1e9, "tokens": 1e11}, 1.79 * 10**-3.04, 1e-12),
        ("step_law_batch/step_law", {"tokens": 1e11}, 0.58 * 10**6.281, 1e-12),
        # DeepSeek LLM (arXiv:2401.02954) at 1e20 FLOPs: 0.3118·10^-2.5, 0.2920·10^6.542
        ("deepseek_lr/deepseek", {"cost_flops": 1e20}, 0.3118 * 10**-2.5, 1e-12),
        ("deepseek_batch/deepseek", {"cost_flops": 1e20}, 0.2920 * 10**6.542, 1e-12),
        # Chinchilla 70B on 1.4T (arXiv:2203.15556 eq. 10): 1.69 + 406.4/7e10^0.34 + 410.7/1.4e12^0.28
        ("chinchilla/hoffmann", {"params": 7e10, "tokens": 1.4e12}, 1.69 + 0.083 + 0.163, 1e-3),
        # Kaplan et al. (arXiv:2001.08361): their size law at 1.5e9 is (8.8e13/1.5e9)^0.076
        ("kaplan_size/kaplan", {"params": 1.5e9}, 2.304, 1e-3),
        ("kaplan_data/kaplan", {"tokens": 2.2e10}, 2.100, 1e-3),
        # one PF-day (8.64e19 FLOPs): (3.1e8)^0.05
        ("kaplan_compute/kaplan", {"cost_flops": 8.64e19}, 3.1e8**0.05, 1e-12),
        # Tian et al. (arXiv:2507.17702) sec. 4.2.2: more than 7 at 3.1 %, granularity 12, 1e22 FLOPs
        (
            "efficiency_leverage/ling",
            {"activation_ratio": 0.031, "granularity": 12.0, "cost_flops": 1e22},
            7.25,
            0.01,
        ),
        # Abnar et al. (arXiv:2501.12370) eq. 6 by hand: 0.94 + 0.0715 + 0.461 + 0.313 + 0.916
        ("sparsity/abnar", {"params": 1e9, "tokens": 2e10, "activation_ratio": 0.1}, 2.702, 3e-3),
        # Gadre et al. (arXiv:2403.08540) by hand: 1.51 + (141·1.4369 + 190/1.4369)/291.71
        ("gadre/c4", {"cost_flops": 2.352e20, "tokens_per_param": 20.0}, 2.6578, 1e-4),
        # ParScale (arXiv:2505.10475), 1.6B on The Pile: measured 1.9539 at P = 1, 1.8856 at P = 8
        ("parscale/pile", {"params": 1571472384, "streams": 1.0}, 1.9539, 2e-3),
        ("parscale/pile", {"params": 1595669000, "streams": 8.0}, 1.8856, 2e-3),
        # Mu-scaling (arXiv:2304.06875): measured 3.0425 at 1,446.72M, not fitted
        ("mu_scaling/mu_scaling", {"params": 1446.72e6}, 3.0425, 3e-3),
        # Kim et al. (2025): 3.43 + 0.05/1.4^1.02
        ("asymptote/infinite_compute", {"params": 1.4e9}, 3.43 + 0.05 / 1.4**1.02, 1e-12),
        # Power Lines (arXiv:2505.13738): 610M at 20 tokens a parameter, tau about 0.21 and 252 sequences the best batch
        ("power_lines_tau/power_lines", {"tokens_per_param": 20.0}, 0.2236, 1e-3),
        ("power_lines_batch/power_lines", {"tokens": 12.2e9}, 2048 * 252, 0.15),
        (
            "power_lines_decay/power_lines",
            {"batch_tokens": 2.0**19, "lr": 0.01, "tokens": 2e10, "tokens_per_param": 20.0},
            2.0**19 / (0.01 * 2e10 * 1.084 * 20**-0.527),
            1e-12,
        ),
        # MiniCPM (arXiv:2404.06395): about 4M tokens at a C4 loss of 2.5
        ("minicpm_batch/minicpm", {"loss_nats": 2.5}, 3.98e6, 1e-2),
        ("kaplan_critical_batch/kaplan", {"loss_nats": 2.5}, 2.1e8 / 2.5 ** (1 / 0.21), 1e-12),
    ],
)
def test_published_values(name: str, inputs: dict[str, float], expected: float, within: float):
    assert PUBLISHED[name].predict(**inputs) == pytest.approx(expected, rel=within)


def test_leverage_is_greatest_at_the_published_granularity():
    """arXiv:2507.17702 sec. 4.1: an optimum of about 12 at every budget."""
    granularity = np.geomspace(1, 64, 500)
    entry = forms.published("ling")
    inputs = {"activation_ratio": 0.031, "cost_flops": 1e20, "granularity": granularity}
    assert granularity[np.argmax(entry.law.value(entry.parameters, inputs))] == pytest.approx(12, rel=0.1)


def test_gamma_of_one_is_chinchilla():
    same = {**forms.published("epoch").parameters, "gamma": 1.0}
    inputs = planned(LAWS["chinchilla"])
    assert LAWS["gamma"].value(same, inputs) == pytest.approx(LAWS["chinchilla"].value(same, inputs), rel=1e-12)


def test_unique_tokens_are_chinchillas():
    """Muennighoff et al. at one epoch and a compute-optimal size is the law that it starts from."""
    entry = forms.published("muennighoff/c4")
    inputs = {"params": 1e9, "tokens": 2.1e10, "unique_tokens": 2.1e10}
    expected = LAWS["chinchilla"].value(entry.parameters, inputs)
    assert MUENNIGHOFF.value(entry.parameters, inputs) == pytest.approx(expected, rel=1e-12)


def test_published_names():
    assert forms.published("chinchilla/epoch") is PUBLISHED["chinchilla/epoch"]
    assert forms.published("abnar").law is LAWS["sparsity"]
    with pytest.raises(Refused, match="accepted are step_law_batch/step_law, step_law_lr/step_law"):
        forms.published("step_law")
    with pytest.raises(Refused, match="unknown published law 'epch'"):
        forms.published("epch")


def test_muennighoff_objective_of_the_released_runs(published: Path):
    """huggingface/datablations: sum of Huber (1e-3) of log residuals .01582594 and R² .7722 at the published point."""
    runs = pd.read_csv(published / "datablations" / "c4_repeat_runs_182.csv")
    inputs = {name: runs[name].to_numpy() for name in MUENNIGHOFF.inputs}
    for name in ("muennighoff/c4", "muennighoff_repeats/c4"):
        value = PUBLISHED[name].law.value(PUBLISHED[name].parameters, inputs)
        miss = np.abs(np.log(value / runs["loss"]))
        assert np.where(miss < 1e-3, miss**2 / 2, 1e-3 * (miss - 5e-4)).sum() == pytest.approx(0.01582594, rel=1e-6)
        unexplained = ((runs["loss"] - value) ** 2).mean() / runs["loss"].var(ddof=0)
        assert 1 - unexplained == pytest.approx(0.7722, abs=1e-4)


@pytest.mark.parametrize(("router", "rmse"), [("S-Base", 0.0039), ("RL-R", 0.0081), ("Hash", 0.0055)])
def test_clark_of_the_released_runs(router: str, rmse: float, published: Path):
    """Root mean square of log10 residuals at the rounded coefficients; a refit reaches .0030 to .0032."""
    runs = pd.read_csv(published / "routing" / "final_losses_main.csv")
    runs = runs[runs["router_type"] == router]
    entry = forms.published({"S-Base": "s_base", "RL-R": "rl_r", "Hash": "hash"}[router])
    inputs = {"params": runs["dense_parameter_count"].to_numpy(), "experts": runs["num_experts"].to_numpy()}
    miss = np.log10(entry.law.value(entry.parameters, inputs) / runs["loss_validation"])
    assert np.sqrt((miss**2).mean()) == pytest.approx(rmse, rel=0.03)
