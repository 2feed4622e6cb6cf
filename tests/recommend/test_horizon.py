"""A horizon is corrected for once: by a law of runs that were their own base there, or by the table."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scalelab.laws import Laws
from scalelab.models import count_params
from scalelab.recipe import Recipe, Value
from scalelab.recommend import batch, decay, recommend
from scalelab.recommend.accepted import swept_apart
from scalelab.recommend.values import settled
from scalelab.resolve import betas, settings
from scalelab.spec import RunSpec, from_plain
from scalelab.target import target_spec
from tests.conftest import make_spec
from tests.recommend.conftest import TOKENS, best, laws_of, runs
from tests.recommend.test_choices import silent
from tests.recommend.test_regret import belief

BATCHES_SWEPT = {"width": 256, "batch_tokens": 1024}


def tau(spec: RunSpec) -> float:
    """Of the resolved matrices, in runs."""
    found = decay.time_scale(spec, Value(name="weight_decay", value=None, source="", rests_on=""))
    assert found is not None and isinstance(found.value, float)
    return found.value


@pytest.fixture(scope="module", params=["completed_p table", "mup ema"])
def batches(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Laws:
    """Laws of runs with many batches, each its own base, of a table that has rules for batch and tokens."""
    name, policy = request.param.split()
    return laws_of(tmp_path_factory.mktemp(name), runs(tokens=TOKENS[1:], name=name, policy=policy))


@pytest.fixture(scope="module")
def larger(batches: Laws) -> Recipe:
    return recommend(batches, BATCHES_SWEPT)


# --- the learning rate ------------------------------------------------------------------------------------------------


def test_a_law_in_batch_is_not_followed_and_the_tables_factor_too(batches: Laws, larger: Recipe) -> None:
    spec = from_plain(larger.spec)
    truth = math.exp(best(spec)["lr"])
    for setting in settings(spec):
        if setting.tensor.name == "embedding.weight":
            assert setting.lr == pytest.approx(truth, rel=0.15)
    assert spec.base_batch_tokens is None
    proxy = make_spec(spec.parametrization)
    assert betas(spec) == betas(proxy)  # as every run had them
    (said,) = (warning for warning in larger.warnings if "each with its own for its base" in warning)
    assert said.startswith("the proxies vary batch_tokens") and "sweep with one base.batch_tokens" in said
    assert "batch_tokens" not in larger.evidence["weights"]  # nor do such runs test the table's claim


def test_only_what_varied_and_has_rules_is_taken_from_the_table(batches: Laws) -> None:
    (group,) = batches.groups
    proxy = from_plain(next(iter((batches.template or {}).values())))
    assert swept_apart(group, proxy) == ("batch_tokens",)
    assert swept_apart(group, make_spec("mup", tokens=TOKENS[1])) == ()
    assert swept_apart(group, replace(proxy, base_batch_tokens=128)) == ()
    longer = from_plain(recommend(batches, {**BATCHES_SWEPT, "tokens": 4 * TOKENS[1]}).spec)
    assert (longer.base_tokens, longer.base_batch_tokens) == (TOKENS[1], None)  # no law in tokens: the table's factor


def test_tokens_that_were_swept_each_their_own_base_are_the_laws_too(tmp_path: Path) -> None:
    recipe = recommend(laws_of(tmp_path, runs(name="completed_p")), {"width": 256, "tokens": 4 * TOKENS[1]})
    spec = from_plain(recipe.spec)
    assert (spec.base_tokens, spec.base_batch_tokens) == (None, None)
    (embedding,) = (setting for setting in settings(spec) if setting.tensor.name == "embedding.weight")
    assert embedding.lr == pytest.approx(math.exp(best(spec)["lr"]), rel=0.25)
    assert tau(spec) == pytest.approx(math.exp(best(spec)["tau"]), rel=0.35)
    assert sum("each with its own for its base" in warning for warning in recipe.warnings) == 2


# --- τ ----------------------------------------------------------------------------------------------------------------


def test_the_recipes_tau_is_the_laws_with_rules_of_the_horizon(batches: Laws) -> None:
    for target in (BATCHES_SWEPT, {"width": 256, "tokens": 4 * TOKENS[1]}):
        found = recommend(batches, target)
        (row,) = (value for value in found.values if value.name == "weight_decay")
        law = float(row.rests_on.partition("with τ ")[2].split()[0])
        assert tau(from_plain(found.spec)) == pytest.approx(law, rel=0.01), target
        if "tokens" in target:
            assert "less the table's ×0.25 on lr·λ" in row.rests_on


@pytest.mark.parametrize("policy", ["table", "ema", "power_lines", "constant", "independent"])
@pytest.mark.parametrize("name", ["sp", "mup", "completed_p"])
def test_the_resolved_time_scale_is_the_laws(name: str, policy: str) -> None:
    known = belief(sd=1e-6, skew=0.0, valleys=("lr", "tau"))  # τ is e^-4
    base = make_spec(name, tokens=64_000, weight_decay_policy=policy)
    for width in (base.base.width, 128):
        proxy = make_spec(name, width=width, tokens=64_000, weight_decay_policy=policy)
        shape = tau(proxy) / (64 / (proxy.hparams.lr * proxy.hparams.weight_decay * 64_000))  # of the proxies too
        assert shape == pytest.approx(1) or width != base.base.width
        for horizon in ({"tokens": 640_000}, {"batch_tokens": 256}, {"tokens": 640_000, "batch_tokens": 1280}):
            spec = target_spec(proxy, {"width": width, **horizon})
            found = decay.carried(spec, proxy, known, set())
            assert found.log_tau == pytest.approx(-4, abs=1e-3)
            assert tau(found.spec) == pytest.approx(shape * math.exp(-4), rel=1e-3), (width, horizon)
            assert found.value.low is not None and found.value.high is not None
            assert found.value.low <= found.spec.hparams.weight_decay <= found.value.high


def test_what_runs_of_one_base_varied_is_in_their_law_of_tau() -> None:
    """Their base values were moved by the table in every run, as the target's are."""
    known = belief(sd=1e-6, skew=0.0, valleys=("lr", "tau"))
    proxy = replace(make_spec("mup", tokens=64_000, weight_decay_policy="ema"), base_tokens=32_000)
    spec = target_spec(proxy, {"width": proxy.shape.width, "tokens": 640_000})
    found = decay.carried(spec, proxy, known, {"tokens"})
    hparams = found.spec.hparams
    assert 64 / (hparams.lr * hparams.weight_decay * 640_000) == pytest.approx(math.exp(-4), rel=1e-3)
    alone = decay.carried(spec, proxy, known, set())  # from the proxies' horizon, not from the base's
    assert tau(alone.spec) / math.exp(-4) == pytest.approx(2, rel=1e-3)  # there lr·λ was half of the base's


def test_power_lines_are_in_tokens_a_parameter_here_as_in_its_policy() -> None:
    for tokens in (64, 16, 256):
        moved = []
        for policy in ("independent", "power_lines"):
            proxy = make_spec("mup", width=64, tokens=64_000, weight_decay_policy=policy)
            spec = target_spec(proxy, {"width": 512, "tokens": 64_000 * tokens})
            moved.append(tau(decay.carried(spec, proxy, silent(), set()).spec) / tau(proxy))
        params = count_params(spec).non_embedding / count_params(proxy).non_embedding
        assert params == pytest.approx(64, rel=0.01)
        assert moved[0] == pytest.approx(moved[1]) == pytest.approx((tokens / params) ** -0.527)
        assert (tokens == 64) == (moved[0] == pytest.approx(1, abs=0.01))


def test_whole_steps_do_not_make_a_run_longer() -> None:
    proxy = make_spec("mup", width=64, tokens=64_000)
    spec = target_spec(proxy, {"width": 256, "tokens": 64_512, "batch_tokens": 1024})
    decayed = decay.carried(spec, proxy, silent(), set()).spec.hparams.weight_decay
    assert decayed == pytest.approx(proxy.hparams.weight_decay * 16)  # the batch's alone


# --- a chosen batch is one that was asked for -------------------------------------------------------------------------


def resolved(spec: RunSpec) -> tuple[object, ...]:
    return spec, betas(spec), settings(spec)


@pytest.mark.parametrize("policy", ["table", "ema", "power_lines"])
@pytest.mark.parametrize("name", ["sp", "mup", "completep", "completed_p"])
@pytest.mark.parametrize("own", [(), ("batch_tokens",)])
def test_a_chosen_batch_resolves_as_if_it_had_been_asked_for(name: str, policy: str, own: tuple[str, ...]) -> None:
    proxy = make_spec(name, width=64, tokens=64_000, weight_decay_policy=policy)
    known = replace(
        silent(), valleys=("batch_tokens",), best=lambda name, logs: np.full((10, 1), math.log(256)),
        height=lambda name, logs: (np.asarray(logs[name]) - math.log(256)) ** 2,
    )  # fmt: skip
    target: Mapping[str, int] = {"width": 128, "depth": 4, "tokens": 128_000}
    found = batch.choose(target_spec(proxy, target, own), known, proxy=proxy, target=target, own=own,
                         swept_tokens=(64_000, 64_000), tried={})  # fmt: skip
    assert found.value.source == "law" and found.spec.horizon.batch_tokens == 256
    asked = target_spec(proxy, {**target, "batch_tokens": 256}, own)
    assert resolved(found.spec) == resolved(asked)


def test_a_warmup_in_tokens_is_never_lost_to_a_larger_batch() -> None:
    proxy = make_spec("mup", width=64, tokens=64_000)
    proxy = replace(proxy, horizon=replace(proxy.horizon, warmup_fraction=0.0, warmup_tokens=128))
    for size, steps in ((64, 2), (512, 1), (80, 2)):
        spec = target_spec(proxy, {"width": 64, "tokens": 64_000 // size * size, "batch_tokens": size})
        assert spec.horizon.warmup_steps == steps
        (row,) = (value for value in settled(spec, proxy) if value.name == "warmup")
        assert ("of their 128 tokens these are whole steps" in row.rests_on) == (size != 64)
    none = replace(proxy, horizon=replace(proxy.horizon, warmup_tokens=0))
    assert target_spec(none, {"width": 64, "batch_tokens": 512}).horizon.warmup_steps == 0
