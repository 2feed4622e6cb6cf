"""Held-out choices, competing forms, varied assumptions and published laws: judged on sweeps whose truth is known."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scalelab.errors import Refused
from scalelab.laws import study
from scalelab.laws.forms import LAWS, PUBLISHED
from scalelab.laws.joint.fit import fit_joint
from scalelab.laws.joint.result import Joint
from scalelab.laws.observations import Observations
from scalelab.laws.solve.fit import fit_observations
from scalelab.laws.validate.forms import averaged, compare_forms
from scalelab.laws.validate.published import compare_losses, compare_settings, keys_of
from scalelab.laws.validate.sensitivity import farther, joint_card, loss_card
from scalelab.laws.validate.settings import Score, Validation, excess_at, leave_out_largest
from tests.laws.synthetic import BEST, CURVATURE, SHAPES, best_log, observed, seen, sweep_runs, truth

FIVE = (-2, -1, 0, 1, 2)
FOUR_SIZES = tuple((n, d) for n in (3e7, 1e8, 3e8, 1e9) for d in (2e9, 8e9))
ONE_HORIZON = tuple((n, 8e9) for n in (3e7, 1e8, 3e8, 1e9))


def fitted(runs: pd.DataFrame) -> Joint:
    return fit_joint(runs, draws=200, rng=np.random.default_rng(0), profiles=False)


def held_out(runs: pd.DataFrame, **options: Any) -> tuple[Joint, Validation]:
    found = fitted(runs)
    return found, leave_out_largest(runs, found, rng=np.random.default_rng(1), **options)


def by_method(validation: Validation) -> dict[str, Score]:
    return {score.method: score for score in validation.scores}


def true_excess(scale: dict[str, float], choice: dict[str, float]) -> float:
    """Per cent, by the formula that the sweep was drawn from."""
    params, tokens = scale["params_non_embedding"], scale["tokens"]
    batch = choice.get("batch_tokens", BEST["batch_tokens"])
    total = CURVATURE["lr"] * SHAPES["linex"](np.log(choice["lr"]) - best_log("lr", params, tokens, batch))
    if "batch_tokens" in choice:
        off = np.log(batch) - best_log("batch_tokens", params, tokens)
        total += CURVATURE["batch_tokens"] * SHAPES["linex"](off)
    return 100 * math.expm1(float(total))


@pytest.mark.parametrize("options", [{}, {"batch_octaves": FIVE}])
def test_a_law_beats_copying_where_the_optimum_moves(options):
    """Ten times the size moves the best learning rate by 10^-0.6, two octaves, of which copying pays the whole."""
    _, validation = held_out(sweep_runs(np.random.default_rng(1), cells=FOUR_SIZES, scatter=0.03, **options))
    scores = by_method(validation)
    assert [cell["params_non_embedding"] for cell in validation.held_out] == [1e9, 1e9]
    assert scores["joint"].mean_percent < 0.3 * scores["copy the largest trained"].mean_percent
    assert list(validation.scores) == sorted(validation.scores, key=lambda score: score.mean_percent)
    assert scores["joint"].covered is not None and scores["joint"].covered >= 0.5
    assert validation.note == ""


@pytest.mark.parametrize("options", [{}, {"batch_octaves": FIVE}])
def test_a_choices_excess_is_the_true_valleys(options):
    """Cells have no scatter of their own here, so that the formula knows what a choice costs: to a tenth, and to 0.02 %
    of the loss where it costs next to nothing."""
    runs = sweep_runs(np.random.default_rng(1), cells=FOUR_SIZES, scatter=0.0, noise=5e-4, **options)
    found, validation = held_out(runs)
    for score in validation.scores:
        true = [true_excess(scale, choice) for scale, choice in zip(validation.held_out, score.chosen, strict=True)]
        assert score.mean_percent == pytest.approx(np.mean(true), rel=0.1, abs=0.02), score.method
        assert score.worst_percent == pytest.approx(np.max(true), rel=0.1, abs=0.02), score.method
    for cell in found.cells:
        choice = {name: 2 * math.exp(log) for name, (log, _) in cell.settings.items()}
        assert 100 * excess_at(found, cell, choice) == pytest.approx(true_excess(cell.scale, choice), rel=0.1)


def test_choices_never_see_the_scales_left_out():
    """Other losses at the largest size change what choices cost, and no choice."""
    runs = sweep_runs(np.random.default_rng(1), cells=FOUR_SIZES)
    largest = runs["params_non_embedding"] == 1e9
    tilted = runs["loss_nats"] * (runs["lr"] / 2**-11) ** 0.02  # a best learning rate half as high
    mutated = runs.assign(loss_nats=runs["loss_nats"].where(~largest, tilted))
    before, after = (by_method(held_out(table)[1]) for table in (runs, mutated))
    assert set(before) == set(after)
    for method, score in before.items():
        for one, other in zip(score.chosen, after[method].chosen, strict=True):
            assert other == pytest.approx(one, rel=1e-3), method
    assert after["joint"].mean_percent != pytest.approx(before["joint"].mean_percent, rel=0.1)


def test_the_horizon_is_held_out_where_it_alone_varied():
    cells = tuple((1e8, d) for d in (1e9, 2e9, 4e9, 8e9))
    _, validation = held_out(sweep_runs(np.random.default_rng(1), cells=cells))
    assert [cell["tokens"] for cell in validation.held_out] == [8e9]


def test_scales_left_out_that_do_not_know_their_optimum_cannot_judge():
    """One noisy learning rate far above the best: the largest size does not know its optimum, and says so."""
    runs = sweep_runs(np.random.default_rng(1), cells=ONE_HORIZON, cut={3: (4,)}, noise=0.02)
    with pytest.raises(Refused, match="the runs do not bracket an optimum; extend its grid"):
        held_out(runs)


def test_published_laws_are_scored_beside_ours():
    runs = sweep_runs(np.random.default_rng(1), cells=FOUR_SIZES, batch_octaves=FIVE)
    _, validation = held_out(runs, published=keys_of(["step-law", "deepseek"]))
    scores = by_method(validation)
    assert {"published step_law", "published deepseek"} <= set(scores)
    chosen = scores["published step_law"].chosen[0]
    scale = validation.held_out[0]
    lr = PUBLISHED["step_law_lr/step_law"].predict(params=scale["params_non_embedding"], tokens=scale["tokens"])
    batch = PUBLISHED["step_law_batch/step_law"].predict(tokens=scale["tokens"])
    assert chosen == pytest.approx({"lr": lr, "batch_tokens": batch})


def forms(rows: Observations, *names: str) -> dict[str, Observations]:
    return {name: replace(rows, inputs={x: rows.inputs[x] for x in LAWS[name].inputs}) for name in names}


def grid_of_sizes(rng: np.random.Generator, name: str, noise: float = 0.003) -> Observations:
    """Six sizes, five horizons each."""
    n, d = np.meshgrid(np.geomspace(3e7, 3e9, 6), np.geomspace(2e9, 2e11, 5))
    inputs = {"params": n.ravel(), "tokens": d.ravel()}
    return seen(inputs, truth(LAWS[name], inputs) * np.exp(noise * rng.standard_normal(30)))


def test_the_true_form_has_the_most_weight():
    """Kaplan's forms have no floor, which data of Chinchilla's have; and a law in size alone misses the tokens."""
    rng = np.random.default_rng(0)
    scores = compare_forms(forms(grid_of_sizes(rng, "chinchilla"), "kaplan", "chinchilla", "kaplan_size", "asymptote"))
    assert scores[0].law == "chinchilla" and scores[0].aicc == 0
    assert sum(score.weight for score in scores) == pytest.approx(1)
    assert scores[0].weight > 0.6
    by_name = {score.law: score for score in scores}
    assert by_name["chinchilla"].cv_percent == pytest.approx(0.3, rel=0.5)  # the noise, and a little extrapolation
    assert by_name["kaplan_size"].cv_percent > 10 * by_name["chinchilla"].cv_percent
    kaplan = compare_forms(forms(grid_of_sizes(rng, "kaplan"), "kaplan", "kaplan_size", "kaplan_data"))
    assert kaplan[0].law == "kaplan"


def test_hold_out_errors_are_positive_where_too_much_is_predicted():
    """A law without a floor predicts too little loss at the largest size; one fitted to losses that fall faster at the
    largest than before predicts too much."""
    rng = np.random.default_rng(0)
    sizes = np.repeat(np.geomspace(1e7, 3e9, 8), 3)
    floor = seen({"params": sizes}, (2.5 + 1e3 / sizes**0.4) * np.exp(1e-4 * rng.standard_normal(24)))
    (score,) = compare_forms(forms(floor, "kaplan_size"))
    assert score.hold_out_percent is not None and score.hold_out_percent < -0.5
    faster = np.where(sizes == sizes.max(), 0.95, 1.0) * truth(LAWS["kaplan_size"], {"params": sizes})
    (score,) = compare_forms(forms(seen({"params": sizes}, faster), "kaplan_size"))
    assert score.hold_out_percent == pytest.approx(100 * (1 / 0.95 - 1), abs=0.2)


def test_forms_that_are_one_form_share_no_weight():
    sizes = np.geomspace(1e7, 3e9, 24)
    rows = seen(
        {"params": sizes},
        truth(LAWS["asymptote"], {"params": sizes}) * np.exp(0.001 * np.random.default_rng(0).standard_normal(24)),
    )
    scores = compare_forms(forms(rows, "asymptote", "mu_scaling"))
    assert len(scores) == 1 and scores[0].weight == 1


def test_the_average_lies_between_and_its_interval_holds_all():
    rng = np.random.default_rng(0)
    rows = forms(grid_of_sizes(rng, "chinchilla"), "kaplan", "chinchilla")
    scores = compare_forms(rows)
    fits = [fit_observations(LAWS[name], part, draws=200, rng=rng) for name, part in rows.items()]
    at = {"params": 3e10, "tokens": 1e12}
    single = [fit.predict(**at) for fit in fits]
    equal = tuple(replace(score, weight=0.5) for score in scores)
    both = averaged(fits, equal, **at)
    assert both.value == pytest.approx(np.mean([p.value for p in single]))
    assert both.low < min(p.value for p in single) and max(p.value for p in single) < both.high
    weighted = averaged(fits, scores, **at)
    share = {score.law: score.weight for score in scores}
    assert weighted.value == pytest.approx(sum(share[f.law.name] * p.value for f, p in zip(fits, single, strict=True)))
    assert weighted.outside == single[0].outside
    with pytest.raises(Refused, match="no fit to average"):
        averaged(fits, (), **at)


def test_a_joint_card_varies_one_assumption_at_a_time():
    runs = sweep_runs(np.random.default_rng(1), cells=FOUR_SIZES, batch_octaves=FIVE)
    found = fitted(runs)
    target = farther(found.domain)
    assert target["params_non_embedding"] == 1e10 and target["tokens"] == 8e10
    card = joint_card(runs, found, target, rng=np.random.default_rng(0))
    assert card.variations[0].choice == "as fitted"
    as_fitted = found.predict(**{n: v for n, v in target.items() if n != "batch_tokens"}).values
    assert card.variations[0].projected == {name: value.value for name, value in as_fitted.items()}
    choices = [variation.choice for variation in card.variations]
    assert len(choices) == len(set(choices)) == 8
    assert any("priors twice as wide" in choice for choice in choices)
    for output, spread in card.spread.items():
        values = [variation.projected[output] for variation in card.variations]
        assert spread == pytest.approx(max(values) / min(values))
        # The model's own formula, 24 times the noise of its valleys away from it: assumptions hardly matter.
        assert 1 <= spread < 1.6, output


def test_a_loss_card_varies_thresholds_and_rows():
    rng = np.random.default_rng(0)
    rows = grid_of_sizes(rng, "chinchilla")
    fit = fit_observations(LAWS["chinchilla"], rows, draws=100, rng=rng)
    card = loss_card(fit, rows, {"params": 3e10, "tokens": 2e12})
    assert [v.choice for v in card.variations] == [
        "as fitted", "Huber δ 1e-3", "Huber δ 1e-2", "least squares", "without the smallest scale",
        "without the 5 highest losses",
    ]  # fmt: skip
    assert card.spread["loss_nats"] < 1.02
    with pytest.raises(Refused, match="chinchilla needs tokens at the target"):
        loss_card(fit, rows, {"params": 3e10})


def test_too_few_rows_vary_less():
    """Six runs carry Chinchilla's five parameters; without five of them nothing can be fitted."""
    rng = np.random.default_rng(0)
    rows = observed(LAWS["chinchilla"], rng, 7)
    fit = fit_observations(LAWS["chinchilla"], rows, draws=100, rng=rng)
    choices = [v.choice for v in loss_card(fit, rows, {"params": 3e10, "tokens": 2e12}).variations]
    assert "without the 5 highest losses" not in choices and "least squares" in choices


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("step-law", ["step_law_lr/step_law", "step_law_batch/step_law"]),
        ("Deepseek ", ["deepseek_lr/deepseek", "deepseek_batch/deepseek"]),
        ("chinchilla/epoch", ["chinchilla/epoch"]),
        ("power_lines_tau", ["power_lines_tau/power_lines"]),
    ],
)
def test_published_names_as_people_write_them(name, keys):
    found = keys_of([name])
    assert set(keys) <= set(found)
    assert all(key in PUBLISHED for key in found)


@pytest.mark.parametrize(
    ("name", "hint"), [("step-lwa", "step_law"), ("deepsek", "deepseek"), ("chinchila/epoch", "epoch")]
)
def test_unknown_published_names_are_refused_with_a_hint(name, hint):
    with pytest.raises(Refused, match=f"unknown published law.*did you mean .*{hint}") as refusal:
        keys_of([name])
    assert "\n" not in str(refusal.value)


def test_names_are_compared_once():
    assert keys_of(["step-law", "step_law_lr/step_law"]) == keys_of(["step-law"])


def test_published_settings_cost_what_the_valleys_say():
    """Hand computation: the published choice at every scale, its height in the valley that the sweep was drawn from."""
    runs = sweep_runs(np.random.default_rng(1), batch_octaves=FIVE, scatter=0.0, noise=5e-4)
    found = fitted(runs)
    (compared,) = compare_settings(found, keys_of(["step-law"]), "params_non_embedding")
    step_lr, step_batch = PUBLISHED["step_law_lr/step_law"], PUBLISHED["step_law_batch/step_law"]
    costs = []
    for cell in found.cells:
        params, tokens = cell.scale["params_non_embedding"], cell.scale["tokens"]
        choice = {
            "batch_tokens": step_batch.predict(tokens=tokens),
            "lr": step_lr.predict(params=params, tokens=tokens),
        }
        costs.append(true_excess(cell.scale, choice))
    assert (compared.name, compared.output, compared.scales) == ("step_law", "lr and batch_tokens", 6)
    assert compared.mean_percent == pytest.approx(np.mean(costs), rel=0.15)
    assert compared.worst_percent == pytest.approx(np.max(costs), rel=0.15)


def test_published_settings_that_lack_an_input_are_not_compared():
    runs = sweep_runs(np.random.default_rng(1), cells=ONE_HORIZON).drop(columns="tokens")
    assert compare_settings(fitted(runs), keys_of(["step-law"]), "params_non_embedding") == []


def test_published_losses_are_off_by_what_they_are_off():
    law = LAWS["chinchilla"]
    inputs = {"params": np.array([1e8, 1e9]), "tokens": np.array([1e10, 1e11])}
    entry = PUBLISHED["chinchilla/epoch"]
    exact = np.array([entry.predict(params=1e8, tokens=1e10), entry.predict(params=1e9, tokens=1e11)])
    rows = seen(inputs, exact / np.array([1.01, 0.97]))
    (compared,) = compare_losses(rows, ["chinchilla/epoch"], {"params": "params_total"})
    assert (compared.name, compared.output, compared.scales) == ("chinchilla/epoch", "loss_nats", 2)
    assert compared.mean_percent == pytest.approx(2.0)
    assert compared.worst_percent == pytest.approx(3.0)
    theirs = entry.columns.get("params")
    if theirs is not None and theirs != "params_total":
        assert f"counts {theirs}, these runs state params_total" in compared.note
    assert compare_losses(rows, ["step_law_lr/step_law"], {}) == []
    assert compare_losses(seen({"params": inputs["params"]}, exact), ["chinchilla/epoch"], {}) == []
    assert set(law.inputs) == set(inputs)


def test_a_study_carries_all_of_it():
    runs = sweep_runs(np.random.default_rng(1), cells=FOUR_SIZES[:6], batch_octaves=(-1, 0, 1))
    table = runs.drop(columns=["log2_lr"])
    group = study(table, draws=100, compare=["step-law", "chinchilla/epoch"]).groups[0]
    assert group.validation is not None and group.validation.scores[0].method
    assert {c.name for c in group.compared} == {"step_law", "chinchilla/epoch"}
    assert {output for card in group.cards for output in card.spread} >= {"lr", "batch_tokens", "loss_nats"}
    assert group.loss_scores[0].weight >= group.loss_scores[-1].weight
    with pytest.raises(Refused, match="unknown published law 'stp-law'"):
        study(table, draws=100, compare=["stp-law"])
