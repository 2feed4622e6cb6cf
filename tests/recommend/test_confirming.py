"""The runs that a recipe proposes: what they cost, that they are what is typed, and that they reduce what is lost."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scalelab.laws import Joint
from scalelab.laws.checked import checked
from scalelab.laws.joint.fit import fit_joint
from scalelab.laws.joint.valley import valley
from scalelab.plan import plan
from scalelab.recipe import NextRun
from scalelab.recommend.confirming import SHARE, next_runs
from scalelab.recommend.worlds import scale_of, worlds
from scalelab.spec import RunSpec
from tests.conftest import make_spec

WIDTHS, TARGET = (32, 48, 64), 512
TOKENS = 64_000
LOG2_LRS = range(-9, -3)
NOISE, CURVATURE, SKEW, SCATTER = 0.004, 0.03, 0.6, 0.1


def run_at(width: int, tokens: int = TOKENS, parametrization: str = "sp") -> RunSpec:
    return make_spec(parametrization, width=width, tokens=tokens)


class Truth:
    """A world: the best learning rate is a power of width and tokens, each scale with a deviation of its own."""

    def __init__(self, seed: int, *, width: float | None = None, tokens: float | None = None) -> None:
        self.rng = np.random.default_rng([seed, 11])
        drawn = self.rng.normal([-0.6, -0.1], [0.35, 0.2])
        self.width, self.tokens = (float(d) if g is None else g for d, g in zip(drawn, (width, tokens), strict=True))
        self.own: dict[tuple[int, int], float] = {}

    def excess(self, spec: RunSpec, lr: float, *, own: bool = True) -> float:
        """ln loss over the best at a scale, and without its own deviation, which nobody can know."""
        at = (spec.shape.width, spec.horizon.tokens)
        best = math.log(2**-6) + self.width * math.log(at[0] / 32) + self.tokens * math.log(at[1] / TOKENS)
        if own:
            best += self.own.setdefault(at, SCATTER * self.rng.standard_normal())
        return float(CURVATURE * valley(np.array(math.log(lr) - best), SKEW)[0])

    def row(self, spec: RunSpec, lr: float, seed: int) -> dict[str, Any]:
        level = 3.0 - 0.1 * math.log2(spec.shape.width / 32) - 0.05 * math.log2(spec.horizon.tokens / TOKENS)
        loss = level * math.exp(self.excess(spec, lr) + NOISE * self.rng.standard_normal())
        return {
            **scale_of(spec), "lr": lr, "seed": seed, "loss_nats": loss, "outcome": "OK", "data": "x",
            "parametrization": spec.parametrization, "optimizer": spec.optimizer, "run": str(self.rng.integers(2**60)),
        }  # fmt: skip

    def sweep(self, specs: Sequence[RunSpec]) -> list[dict[str, Any]]:
        return [self.row(spec, 2.0**k, 0) for spec in specs for k in LOG2_LRS]

    def carry_out(self, proposals: Sequence[NextRun]) -> list[dict[str, Any]]:
        rows = []
        for proposal in proposals:
            stated = dict(override.split("=", 1) for override in proposal.overrides)
            spec = run_at(int(stated["width"]), int(stated["tokens"]))
            rows += [self.row(spec, float(lr), 0) for lr in stated["lr"].split(",")]
        return rows

    def repeats(self, spec: RunSpec, flops: float) -> list[dict[str, Any]]:
        """More seeds of the largest proxy's sweep for the same FLOPs, or a run more."""
        settings = ((2.0**k, seed) for seed in range(1, 100) for k in LOG2_LRS)
        return [self.row(spec, *setting) for _, setting in zip(range(math.ceil(flops / spec.cost_flops)), settings,
                                                               strict=False)]  # fmt: skip


def fitted(rows: Sequence[dict[str, Any]]) -> Joint:
    return fit_joint(checked(pd.DataFrame(rows)), draws=200, rng=np.random.default_rng(0), profiles=False)


def chosen_lr(joint: Joint) -> float:
    return joint.predict(width=float(TARGET)).values["lr"].value


def spread(joint: Joint) -> float:
    found = joint.predict(width=float(TARGET)).values["lr"]
    return math.log(found.high / found.low)


@pytest.fixture(scope="module")
def joint() -> Joint:
    return fitted(Truth(0).sweep([run_at(width) for width in WIDTHS]))


@pytest.fixture(scope="module")
def proposed(joint: Joint) -> tuple[NextRun, ...]:
    return next_runs(joint, run_at(64), run_at(TARGET), nats=2.6)


# --- what is proposed -------------------------------------------------------------------------------------------------


def test_proposals_are_few_cheap_and_each_reduces_the_risk(proposed: tuple[NextRun, ...]) -> None:
    assert 1 <= len(proposed) <= 3
    assert sum(proposal.cost_flops for proposal in proposed) <= SHARE * run_at(TARGET).cost_flops
    for before, after in itertools.pairwise(proposed):
        assert after.risk_nats == before.risk_after_nats
    for proposal in proposed:
        assert 0 < proposal.risk_after_nats < 0.95 * proposal.risk_nats
        assert "of the way" in proposal.why and "of the target's cost" in proposal.why


def test_what_is_typed_trains_what_is_meant(proposed: tuple[NextRun, ...]) -> None:
    for proposal in proposed:
        runs = plan(proposal.overrides, multirun=True).runs
        assert sum(run.spec.cost_flops for run in runs) == proposal.cost_flops
        lrs = [run.spec.hparams.lr for run in runs]
        assert len(set(lrs)) == len(lrs) >= 2 and max(lrs) / min(lrs) >= 1.9
        for run in runs:
            assert 64 <= run.spec.shape.width < TARGET
            assert replace(run.spec, hparams=run_at(64).hparams, shape=run_at(64).shape) == run_at(64)


def test_a_larger_share_buys_less_risk(joint: Joint, proposed: tuple[NextRun, ...]) -> None:
    more = next_runs(joint, run_at(64), run_at(TARGET), nats=2.6, share=0.3)
    assert more[-1].risk_after_nats < 0.9 * proposed[-1].risk_after_nats
    assert next_runs(joint, run_at(64), run_at(TARGET), nats=2.6, share=1e-3) == ()
    assert len(next_runs(joint, run_at(64), run_at(TARGET), nats=2.6, share=0.3, most=1)) == 1


def test_the_same_question_has_the_same_answer(joint: Joint, proposed: tuple[NextRun, ...]) -> None:
    assert next_runs(joint, run_at(64), run_at(TARGET), nats=2.6) == proposed


def test_a_scale_that_no_proxy_varied_is_what_is_asked_about(joint: Joint) -> None:
    """Many times the tokens, at the largest proxy's width: all the risk is in an exponent that no run has seen."""
    found = next_runs(joint, run_at(64), run_at(64, 200 * TOKENS), nats=2.6)
    assert found and all("tokens" in proposal.why for proposal in found)
    for proposal in found:
        assert all(run.spec.horizon.tokens > TOKENS for run in plan(proposal.overrides, multirun=True).runs)


def test_a_claim_of_the_table_leaves_less_to_ask_than_its_absence() -> None:
    flat = Truth(1, width=0.0).sweep([run_at(width, parametrization="mup") for width in WIDTHS])
    joint, rng = fitted(flat), np.random.default_rng(0)
    proxy, target = run_at(64, parametrization="mup"), run_at(TARGET, parametrization="mup")
    spreads = [
        float(np.std(worlds(joint, proxy, target, claims, n=2000, rng=rng).best_lr(scale_of(target), rng)))
        for claims in (("width",), ())
    ]
    assert spreads[0] < 0.9 * spreads[1]


def test_without_a_law_of_all_runs_nothing_is_proposed() -> None:
    assert next_runs(None, run_at(64), run_at(TARGET), nats=2.6) == ()


# --- what carrying it out gives ---------------------------------------------------------------------------------------


def test_carried_out_they_tell_more_than_repeats_of_the_same_cost() -> None:
    proxy, target = run_at(64), run_at(TARGET)
    for seed in range(3):
        truth = Truth(seed)
        rows = truth.sweep([run_at(width) for width in WIDTHS])
        found = next_runs(fitted(rows), proxy, target, nats=2.6, share=0.3)
        flops = sum(proposal.cost_flops for proposal in found)
        after = spread(fitted([*rows, *truth.carry_out(found)]))
        assert after < 0.8 * spread(fitted([*rows, *truth.repeats(proxy, flops)]))


@pytest.mark.slow
def test_carried_out_they_reduce_the_realised_regret_more_than_repeats_of_the_same_cost() -> None:
    proxy, target = run_at(64), run_at(TARGET)
    before, planned, repeated, stated = [], [], [], []
    for seed in range(80):
        truth = Truth(seed)
        rows = truth.sweep([run_at(width) for width in WIDTHS])
        joint = fitted(rows)
        found = next_runs(joint, proxy, target, nats=2.6, share=0.3)
        flops = sum(proposal.cost_flops for proposal in found)
        stated.append((found[0].risk_nats, found[-1].risk_after_nats))
        for regrets, rest in (
            (before, None), (planned, truth.carry_out(found)), (repeated, truth.repeats(proxy, flops))
        ):  # fmt: skip
            lr = chosen_lr(joint if rest is None else fitted([*rows, *rest]))
            regrets.append(2.6 * math.expm1(truth.excess(target, lr, own=False)))
    gain = np.array(repeated) - np.array(planned)
    low, _ = stats.bootstrap((gain,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    told = (
        f"nats {np.mean(before):.4f}, planned {np.mean(planned):.4f}, repeated {np.mean(repeated):.4f}; gain {low:.4f}"
    )
    assert low > 0, told
    assert np.mean(planned) < 0.6 * np.mean(before), told
    first, last = np.mean(stated, axis=0)
    assert last / first == pytest.approx(np.mean(planned) / np.mean(before), abs=0.25), told
