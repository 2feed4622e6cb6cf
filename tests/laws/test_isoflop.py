"""Approaches 1 and 2 find the optimum of a Chinchilla law that they are shown, and say where they cannot."""

import numpy as np
import pandas as pd
import pytest

from scalelab.errors import Refused
from scalelab.laws.envelope import envelope
from scalelab.laws.isoflop import isoflop

E, A, B, ALPHA, BETA = 1.69, 406.4, 410.7, 0.34, 0.28
EXPONENT = BETA / (ALPHA + BETA)
BUDGETS = tuple(np.geomspace(1e18, 1e21, 7))


def best(cost_flops: float) -> float:
    """N* of E + A/N^α + B/D^β at C = 6·N·D (arXiv:2203.15556 eq. 4)."""
    return float((ALPHA * A / BETA / B) ** (1 / (ALPHA + BETA)) * (cost_flops / 6) ** EXPONENT)


def loss(params: float, tokens: float) -> float:
    return E + A / params**ALPHA + B / tokens**BETA


def sweep(
    rng: np.random.Generator,
    *,
    budgets: tuple[float, ...] = BUDGETS,
    octaves: tuple[float, float] = (-2.5, 2.5),
    sizes: int = 9,
    noise_nats: float = 0.002,
    seeds: int = 1,
) -> pd.DataFrame:
    """Sizes around the best of every budget, off centre by up to half an octave."""
    rows = []
    for cost in budgets:
        for params in best(cost) * 2.0 ** (np.linspace(*octaves, sizes) + rng.uniform(-0.5, 0.5)):
            tokens = cost / 6 / params
            for seed in range(seeds):
                measured = loss(params, tokens) + noise_nats * rng.standard_normal()
                run = {"params": params, "tokens": tokens, "cost_flops": cost, "seed": seed}
                rows.append(run | {"loss_nats": measured})
    return pd.DataFrame(rows)


def curves(*, sizes: int = 16, checkpoints: int = 60) -> pd.DataFrame:
    rows = [
        {"run": f"{params:.4g}", "params": params, "tokens": tokens, "loss_nats": loss(params, tokens)}
        for params in np.geomspace(1e7, 3e9, sizes)
        for tokens in np.geomspace(2 * params, 200 * params, checkpoints)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("method", ["akima", "parabola"])
def test_finds_the_optimum_without_noise(method: str, rng: np.random.Generator):
    found = isoflop(sweep(rng, noise_nats=0.0), method=method, noise_nats=0.0, draws=10)
    assert found.params_exponent.value == pytest.approx(EXPONENT, abs=0.01)
    assert found.params_exponent.value + found.tokens_exponent.value == pytest.approx(1.0)
    for budget in found.budgets:
        assert budget.status == "INTERIOR" and budget.params is not None and budget.tokens is not None
        assert budget.params.value == pytest.approx(best(budget.cost_flops), rel=0.06)
        assert 6 * budget.params.value * budget.tokens == pytest.approx(budget.cost_flops, rel=1e-6)


def test_intervals_cover():
    """Of 30 sweeps the 95 % intervals of exponent and prediction miss no more than chance would allow (1 in 1,000)."""
    missed = 0
    for seed in range(30):
        found = isoflop(sweep(np.random.default_rng(seed), noise_nats=0.004), draws=200, seed=seed)
        predicted = found.predict(cost_flops=1e22)["params"]
        assert predicted.outside["cost_flops"] == pytest.approx(1.0)
        missed += not (found.params_exponent.contains(EXPONENT) and predicted.low < best(1e22) < predicted.high)
    assert missed <= 6


def test_coefficient_is_at_one_flop(rng: np.random.Generator):
    found = isoflop(sweep(rng), draws=50)
    at = found.params_coefficient * 1e20**found.params_exponent.value
    assert at == pytest.approx(found.predict(cost_flops=1e20)["params"].value)


def test_noise_is_measured_where_it_is_not_given(rng: np.random.Generator):
    replicated = isoflop(sweep(rng, noise_nats=0.005, seeds=3), draws=50)
    assert "noise 0.00" in replicated.status and "seed replicates" in replicated.status
    single = isoflop(sweep(rng, noise_nats=0.005), draws=50)
    assert "deviations from neighbours" in single.status
    sparse = isoflop(sweep(rng, sizes=4), draws=50)
    assert "assumed" in sparse.status and any("seed replicates" in text for text in sparse.warnings)


def test_more_noise_widens(rng: np.random.Generator):
    table = sweep(rng)
    widths = [np.ptp((e.low, e.high)) for e in (isoflop(table, noise_nats=n).params_exponent for n in (0.001, 0.03))]
    assert widths[1] > 2 * widths[0]


def test_an_optimum_at_the_edge_is_dropped_with_a_sentence(rng: np.random.Generator):
    inside, cut = BUDGETS[:4], BUDGETS[4:]
    table = pd.concat([sweep(rng, budgets=inside), sweep(rng, budgets=cut, octaves=(-4.0, -1.0))], ignore_index=True)
    found = isoflop(table, draws=100)
    assert [budget.status for budget in found.budgets] == ["INTERIOR"] * 4 + ["ABOVE"] * 3
    assert all(budget.params is None for budget in found.budgets[4:])
    assert len(found.warnings) == 3 and "train larger ones" in found.warnings[0]
    assert found.params_exponent.value == pytest.approx(EXPONENT, abs=0.05)
    assert found.params.domain["cost_flops"][1] == pytest.approx(inside[-1])


def test_budgets_that_differ_by_rounding_are_one(rng: np.random.Generator):
    table = sweep(rng)
    table["cost_flops"] *= np.exp(rng.uniform(-0.02, 0.02, len(table)))
    assert len(isoflop(table, draws=20).budgets) == len(BUDGETS)


def test_columns_follow_from_one_another(rng: np.random.Generator):
    table = sweep(rng)
    whole = isoflop(table, draws=20).params_exponent
    for dropped in ("tokens", "cost_flops"):
        assert isoflop(table.drop(columns=dropped), draws=20).params_exponent.value == pytest.approx(whole.value)


def test_the_best_setting_of_each_size_counts(rng: np.random.Generator):
    tuned = sweep(rng).assign(lr=1e-3)
    untuned = tuned.assign(lr=1e-2, loss_nats=tuned["loss_nats"] + 0.5)
    both = isoflop(pd.concat([tuned, untuned], ignore_index=True), noise_nats=0.002)
    assert both.params_exponent == isoflop(tuned, noise_nats=0.002).params_exponent


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t[t["cost_flops"] == BUDGETS[0]], "one FLOP budget only"),
        (lambda t: t[t["params"] < 1.2 * t["cost_flops"].map(best) / 4], "FLOPs"),
        (lambda t: t.drop(columns="params"), "params"),
        (lambda t: t.drop(columns=["tokens", "cost_flops"]), "cost_flops or tokens"),
        (lambda t: t.drop(columns="loss_nats"), "loss_nats"),
        (lambda t: t.assign(outcome="DIVERGED"), "no run ended well"),
        (lambda t: t.assign(data=["a", "b"] * (len(t) // 2) + ["a"] * (len(t) % 2)), "several data"),
    ],
)
def test_refuses_what_has_no_answer(change, said: str, rng: np.random.Generator):
    with pytest.raises(Refused, match=said):
        isoflop(change(sweep(rng)))


def test_refuses_unknown_methods_noise_and_draws(rng: np.random.Generator):
    with pytest.raises(Refused, match="unknown method"):
        isoflop(sweep(rng), method="spline")
    with pytest.raises(Refused, match="noise_nats"):
        isoflop(sweep(rng), noise_nats=-1.0)
    with pytest.raises(Refused, match="draws=0"):
        isoflop(sweep(rng), draws=0)


def test_same_seed_same_numbers(rng: np.random.Generator):
    table = sweep(rng)
    first, again = (isoflop(table, draws=50, seed=3) for _ in range(2))
    assert first.summary() == again.summary()
    assert first.predict(cost_flops=1e22) == again.predict(cost_flops=1e22)


def test_envelope_finds_the_optimum():
    found = envelope(curves(), draws=200)
    assert found.params_exponent.value == pytest.approx(EXPONENT, abs=0.01)
    assert found.params_exponent.contains(EXPONENT)
    predicted = found.predict(cost_flops=1e20)
    assert predicted["params"].value == pytest.approx(best(1e20), rel=0.1)
    assert predicted["tokens"].value == pytest.approx(1e20 / 6 / best(1e20), rel=0.1)
    assert len(found.budgets) == 14  # of 16 sizes; at the smallest and the largest the best may lie beyond


def test_envelope_counts_only_costs_that_smaller_and_larger_runs_reach():
    """Large runs that are stated late only: where they are missing, the largest of the others looks best and is not."""
    table = curves()
    late = envelope(table[(table["params"] < 1e9) | (table["tokens"] > 1e11)], draws=50)
    assert late.params_exponent.value == pytest.approx(EXPONENT, abs=0.03)
    assert all(b.params is None or b.sizes[0] < b.params.value < b.sizes[1] for b in late.budgets)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns="run"), "no column 'run'"),
        (lambda t: t.drop_duplicates("run"), "a row a checkpoint"),
        (lambda t: t[t["params"].isin(t["params"].unique()[:2])], "train more sizes"),
    ],
)
def test_envelope_refuses_what_has_no_answer(change, said: str):
    with pytest.raises(Refused, match=said):
        envelope(change(curves()))
