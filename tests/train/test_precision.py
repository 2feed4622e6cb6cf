"""Matrix products in bfloat16, and programs that torch compiles: not the same bits, the same run."""

import pytest
import torch

from scalelab.optimizers import OPTIMIZERS
from tests.conftest import make_spec
from tests.train.running import NARROW, alone, assert_same, of_model, population, run_each, stepped, to_horizon


@pytest.mark.parametrize("model", ["transformer", "moe", "mlp", "vit"])
def test_bfloat16_trains_as_float32_does_to_its_precision(model: str) -> None:
    """Eight bits of mantissa: products are off by 2^-9, a loss by a few times that."""
    exact, rough = (to_horizon(of_model(model, dtype=dtype), 8) for dtype in ("float32", "bfloat16"))
    (one,), (other,) = run_each([exact]), run_each([rough])
    for before, after in zip(one.curve, other.curve, strict=True):
        assert after["loss_nats"] == pytest.approx(before["loss_nats"], abs=0.05)
    assert one.trial.loss_nats is not None
    assert other.trial.loss_nats == pytest.approx(one.trial.loss_nats, abs=0.05)
    assert other.trial.loss_nats != one.trial.loss_nats  # it is in another precision


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_and_moments_stay_in_float32(optimizer: str) -> None:
    schedule = {"schedule": "wsd"} if OPTIMIZERS[optimizer].then else {}
    trained = population([make_spec(**NARROW, optimizer=optimizer, dtype="bfloat16", **schedule)])
    stepped(trained, 2)
    state = trained.members[0].state()
    kept = [value for each in state["optimizer"].values() for value in each.values()]
    for value in [*state["network"].values(), *kept]:
        assert not isinstance(value, torch.Tensor) or value.dtype == torch.float32


def test_in_bfloat16_a_member_has_its_own_bits_too() -> None:
    hparams = [{}, {"lr": 0.03, "attention_multiplier": 2.0, "logits_multiplier": 0.5}, {"clip_norm": None}]
    specs = [
        make_spec(**NARROW, dtype="bfloat16", hparams=each, seed=seed) for seed, each in enumerate(hparams)
    ]  # fmt: skip
    for spec, ran in zip(specs, run_each(specs, members=3), strict=True):
        assert_same(alone(spec), ran)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::FutureWarning:torch.*")
def test_compiled_runs_are_the_eager_ones_to_rounding() -> None:
    specs = [make_spec(**NARROW, seed=seed, hparams={"lr": 0.01 * (1 + seed)}) for seed in range(2)]
    for eager, compiled in zip(run_each(specs, members=2), run_each(specs, members=2, compiled=True), strict=True):
        for before, after in zip(eager.curve, compiled.curve, strict=True):
            assert after["loss_nats"] == pytest.approx(before["loss_nats"], abs=1e-4)
        assert compiled.trial.loss_nats == pytest.approx(eager.trial.loss_nats, abs=1e-4)
