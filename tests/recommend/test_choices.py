"""Batch and weight decay where no law of the runs says them, and what a recipe warns of."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scalelab.laws import GroupLaws
from scalelab.laws.optima.noise import Noise
from scalelab.recipe import LrChoice, Regret, Value
from scalelab.recommend import batch, decay
from scalelab.recommend.averaging import Average, Member, Posterior
from scalelab.recommend.belief import Belief
from scalelab.recommend.cautions import cautions
from scalelab.recommend.values import settled
from scalelab.spec import RunSpec
from tests.conftest import make_spec
from tests.laws.sweeps import sweep
from tests.recommend.simulated import fitted

SEQUENCE = 16  # of `make_spec`


def silent(*, theory: float | None = None, unmeasured: tuple[str, ...] = ()) -> Belief:
    """A belief that knows no valley; with `theory` the weight of the claim in width."""
    posterior = Posterior(names=("lr ~ width",), mean_P=np.zeros(1), scale_PP=np.eye(1), dof=5.0, priors={})
    claimed = () if theory is None else ("lr ~ width",)
    members = (
        Member(held=(), weight=1 - (theory or 0.0), posterior=posterior),
        Member(held=claimed, weight=theory or 0.0, posterior=posterior),
    )
    return Belief(
        averages={"a law": Average(members=members, claimed=claimed)}, theory_D=np.zeros(1, bool), valleys=(),
        best=lambda name, logs: np.zeros((1, 1)), height=lambda name, logs: np.zeros((1, 1)), unmeasured=unmeasured,
    )  # fmt: skip


def at(spec: RunSpec, **horizon: Any) -> RunSpec:
    return replace(spec, horizon=replace(spec.horizon, **horizon))


# --- batch ------------------------------------------------------------------------------------------------------------


def chosen(
    tokens: int, *, own: int = 64, asked: bool = False, swept: tuple[float, float] = (640.0, 640.0)
) -> batch.Batch:  # fmt: skip
    spec = at(make_spec("mup", width=64), tokens=tokens // own * own, batch_tokens=own)
    target = {"width": 64, "tokens": tokens, **({"batch_tokens": own} if asked else {})}
    return batch.choose(spec, silent(), proxy=spec, target=target, own=(), swept_tokens=swept, tried={})


def test_a_run_as_long_as_the_proxies_keeps_their_batch() -> None:
    found = chosen(640)
    assert found.spec.horizon.batch_tokens == 64 and found.value.source == "proxies"
    assert "as long as the proxies" in found.value.rests_on


def test_where_no_law_reaches_the_proxies_batch_stays_too() -> None:
    found = chosen(6400)
    assert found.spec.horizon.batch_tokens == 64 and found.value.source == "proxies"
    assert "far outside of published laws" in found.value.rests_on


def test_a_longer_run_within_published_laws_takes_theirs_and_whole_steps() -> None:
    tokens = 10**10
    found = chosen(tokens, own=2**17)
    laws = 0.58 * tokens**0.571, 0.0306 * 2048 * tokens**0.383  # Step Law, Power Lines
    assert found.value.source == "published" and "arXiv:2503.04715" in found.value.rests_on
    size = found.spec.horizon.batch_tokens
    assert size == SEQUENCE * 2 ** round(math.log2(math.sqrt(laws[0] * laws[1]) / SEQUENCE))
    assert (found.value.low, found.value.high) == pytest.approx((min(laws), max(laws)), rel=1e-4)
    assert found.spec.horizon.tokens % size == 0
    assert abs(found.spec.horizon.tokens - tokens) <= size / 2
    assert [row["batch_tokens"] for row in found.table if row["chosen"]] == [size]


def test_a_batch_too_far_from_the_proxies_for_their_rate_is_said_and_not_taken() -> None:
    found = chosen(10**10, own=64)
    assert found.spec.horizon.batch_tokens == 64 and found.value.source == "proxies"
    assert "too far to carry a learning rate: sweep batches" in found.value.rests_on


def test_the_table_goes_from_half_the_best_to_the_critical_batch() -> None:
    found = chosen(10**10, own=2**17)
    assert found.critical == pytest.approx(0.0471 * 2048 * 1e10**0.462, rel=1e-4)
    sizes = [row["batch_tokens"] for row in found.table]
    assert sizes == sorted(sizes) and len(sizes) > 2
    assert sizes[0] <= found.value.value / 1.4 and sizes[-1] >= found.critical  # type: ignore[operator]
    for row in found.table:  # (S/Smin − 1)(E/Emin − 1) = 1 with Bc = Emin/Smin
        more_tokens = row["excess_tokens_percent"] / 100
        more_steps = found.critical / row["batch_tokens"]
        assert more_tokens * more_steps == pytest.approx(1)
        assert row["excess_loss_percent"] is None  # no valley was swept


def test_an_asked_batch_stays_and_the_laws_are_said_beside_it() -> None:
    found = chosen(10**10, own=2**16, asked=True)
    assert found.spec.horizon.batch_tokens == 2**16 and found.value.source == "asked"
    assert "published says" in found.value.rests_on


# --- weight decay -----------------------------------------------------------------------------------------------------


def test_decay_stays_with_the_table_where_the_horizon_stays() -> None:
    proxy = make_spec("mup", width=64)
    found = decay.carried(make_spec("mup", width=256), proxy, silent(), set())
    assert found.value.source == "theory" and found.spec.hparams.weight_decay == proxy.hparams.weight_decay


def test_a_longer_run_moves_tau_as_power_lines_does() -> None:
    proxy = make_spec("mup", width=64, tokens=640)
    spec = at(proxy, tokens=6400, batch_tokens=128)
    found = decay.carried(spec, proxy, silent(), set())
    assert found.value.source == "published" and "2505.13738" in found.value.rests_on

    def tau(run: RunSpec) -> float:
        return run.horizon.batch_tokens / (run.hparams.lr * run.hparams.weight_decay * run.horizon.tokens)

    assert tau(found.spec) / tau(proxy) == pytest.approx(10**-0.527)
    swept = decay.carried(spec, proxy, silent(), {"tokens", "batch_tokens"})  # the runs' own optima had this decay
    assert swept.spec.hparams.weight_decay == proxy.hparams.weight_decay


def test_a_policy_of_the_horizon_is_left_to_itself() -> None:
    proxy = make_spec("mup", width=64, tokens=640, weight_decay_policy="ema")
    found = decay.carried(at(proxy, tokens=6400), proxy, silent(), set())
    assert found.value.source == "theory" and found.spec.hparams.weight_decay == proxy.hparams.weight_decay


def test_no_decay_stays_none() -> None:
    proxy = make_spec("mup", width=64, hparams={"weight_decay": 0.0})
    found = decay.carried(at(proxy, tokens=6400), proxy, silent(), set())
    assert found.value.value == 0.0 and decay.time_scale(found.spec, found.value) is None


# --- other values and warnings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "has", "lacks"),
    [("adamw", "beta2", "momentum"), ("sgd", "momentum", "beta2"), ("muon", "beta2", "no such")],
)
def test_values_are_those_that_the_optimizer_has(optimizer: str, has: str, lacks: str) -> None:
    spec = make_spec("mup", optimizer=optimizer)
    names = {value.name for value in settled(spec, spec)}
    assert has in names and lacks not in names and {"warmup", "schedule", "clip_norm", "init"} <= names


@pytest.fixture(scope="module")
def group() -> GroupLaws:
    return fitted(sweep(np.random.default_rng(0)))


def warned(group: GroupLaws, spec: RunSpec, **changes: Any) -> str:
    rate = LrChoice(kind="averaged", value=0.01, low=0.008, high=0.012, law="", rests_on="")
    fine = (Regret(setting="recommended", factor=1.0, nats=1e-3, high=1e-2, loss_percent=None, compute_percent=None),)
    given = {
        "belief": silent(), "chosen": rate, "tau": None, "critical": None, "regrets": fine, "silent": (), **changes,
    }  # fmt: skip
    return "\n".join(cautions(group, given["belief"], spec, given["chosen"], given["tau"], given["critical"],
                              given["regrets"], given["silent"]))  # fmt: skip


def test_a_sound_recipe_is_not_warned_of(group: GroupLaws) -> None:
    spec = at(make_spec("mup", tokens=64_000), warmup_fraction=0.1)
    assert warned(group, spec) == ""


def test_each_doubt_is_said_with_what_to_do(group: GroupLaws) -> None:
    spec = at(make_spec("mup", tokens=64_000), warmup_fraction=0.1)
    wide = LrChoice(kind="averaged", value=0.01, low=0.001, high=0.1, law="", rests_on="")
    flat = (Regret(setting="lr", factor=2.0, nats=1e-4, high=1e-3, loss_percent=None, compute_percent=None),)
    long_tau = Value(name="tau", value=3.0, unit="runs", source="theory", rests_on="")
    for changes, said, to_do in (
        ({"belief": silent(theory=0.01)}, "theory and measurement disagree in width", "confirm at a size between"),
        ({"chosen": wide}, "the interval of the learning rate spans ×100", "sweep scales nearer"),
        ({"critical": 32.0}, "batch_tokens 64 is ×2 the critical batch 32", "use a smaller batch"),
        ({"tau": long_tau}, "τ is 3 runs", "raise it, or leave it out"),
        ({"regrets": flat}, "one run's noise is", "seeds a side"),
        ({"regrets": ()}, "no regret is stated, since no valley was fitted", "sweep learning rates to both sides"),
        ({"regrets": (), "silent": ["tokens"]}, "nothing says how the optimum moves with tokens", "vary that"),
    ):
        text = warned(group, spec, **changes)
        assert said in text and to_do in text and text.count("\n") == 0, text
    assert warned(group, spec, belief=silent(theory=0.5)) == ""
    short = at(make_spec("mup", tokens=640), warmup_fraction=0.1)
    assert "warmup takes 1 steps, fewer than Adam's second moment remembers (1/(1−beta2) = 20)" in warned(group, short)
    tiny = replace(spec, hparams=replace(spec.hparams, eps=1e-12))
    assert "eps goes down to" in warned(group, tiny) and "keep them in float32" in warned(group, tiny)
    assumed = replace(group, noise=Noise(sd_nats=0.005, source="assumed", dof=0))
    assert "the noise of a run is assumed" in warned(assumed, spec)


def test_divergence_near_the_recipe_is_warned_of(group: GroupLaws) -> None:
    spec = at(make_spec("mup", tokens=64_000), warmup_fraction=0.1)
    broken = fitted(sweep(np.random.default_rng(0), diverged_from=-5))
    broken = replace(broken, n_diverged=3)
    stable = max(o.lr_stable or 0.0 for o in broken.optima)
    near, beyond = (
        LrChoice(kind="", value=v, low=v / 2, high=v * 2, law="", rests_on="") for v in (stable / 8, stable * 2)
    )
    assert "diverged" not in warned(broken, spec, chosen=near)
    assert "the recipe's own lies above" in warned(broken, spec, chosen=beyond)
