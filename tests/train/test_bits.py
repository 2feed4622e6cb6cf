"""The claim of the trainer: a run has the same bits alone, in any population, in any order, after any compaction."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scalelab.errors import Refused
from scalelab.optimizers import OPTIMIZERS
from scalelab.parametrizations import TABLES
from scalelab.programs import by_program
from scalelab.resolve import settings as resolved
from scalelab.shape import Architecture
from scalelab.spec import RunSpec
from scalelab.trials import Outcome
from tests.conftest import make_spec
from tests.train.running import NARROW, alone, assert_same, of_model, run_each, to_horizon

ARCHITECTURES = (
    Architecture(mlp="gelu"),
    Architecture(tied_head=True, biases=True, qk_norm=True, norm_gains="scalar"),
    Architecture(mlp="squared_relu", positions="learned", norm_gains="none"),
)
HPARAMS: list[dict[str, Any]] = [
    {},
    {
        "lr": 0.03, "weight_decay": 0.5, "beta1": 0.8, "beta2": 0.99, "clip_norm": 0.1, "init_gain": 0.5,
        "attention_multiplier": 2.0, "residual_multiplier": 0.7, "logits_multiplier": 3.0, "embedding_multiplier": 1.3,
    },
    {"lr": 0.02, "weight_decay": 0.0, "clip_norm": None, "eps": 1e-6, "embedding_std": 0.3},
]  # fmt: skip


def schedule_of(optimizer: str) -> dict[str, str]:
    return {"schedule": "wsd"} if OPTIMIZERS[optimizer].then else {}


def has_rules(parametrization: str, optimizer: str, architecture: Architecture) -> bool:
    if TABLES[parametrization].unit_scaled:
        return False  # of other networks: below
    try:
        resolved(make_spec(parametrization, optimizer=optimizer, architecture=architecture, **schedule_of(optimizer)))
    except Refused:
        return False
    return True


TABLES_OF = {
    (optimizer, architecture): [name for name in TABLES if has_rules(name, optimizer, architecture)]
    for optimizer in OPTIMIZERS
    for architecture in ARCHITECTURES
}

hparams = st.fixed_dictionaries(
    {
        "lr": st.sampled_from([1e-4, 0.01, 0.1, 1e6, 1e30]),
        "weight_decay": st.sampled_from([0.0, 0.1, 0.5]),
        "beta1": st.sampled_from([0.0, 0.9, 0.95]),
        "beta2": st.sampled_from([0.95, 0.999]),
        "eps": st.sampled_from([1e-8, 1e-3]),
        "momentum": st.sampled_from([0.0, 0.9]),
        "clip_norm": st.sampled_from([None, 0.01, 1.0]),
        "init_gain": st.sampled_from([0.5, 1.0]),
        "embedding_multiplier": st.sampled_from([1.0, 3.0]),
        "attention_multiplier": st.sampled_from([1.0, 0.3]),
        "residual_multiplier": st.sampled_from([1.0, 0.7]),
        "logits_multiplier": st.sampled_from([1.0, 2.0]),
        "z_loss": st.sampled_from([0.0, 1e-4]),
    }
)


@st.composite
def populations(draw: st.DrawFn) -> tuple[list[RunSpec], int]:
    """Specs of one optimizer and two widths, and how many to train together."""
    optimizer, architecture = draw(st.sampled_from(list(TABLES_OF)))
    schedules = ["wsd"] if OPTIMIZERS[optimizer].then else ["cosine", "linear", "wsd", "constant"]

    @st.composite
    def specs(draw: st.DrawFn) -> RunSpec:
        spec = make_spec(
            draw(st.sampled_from(TABLES_OF[optimizer, architecture])),
            **{**NARROW, "width": draw(st.sampled_from([16, 16, 32]))},
            optimizer=optimizer,
            architecture=architecture,
            hparams=draw(hparams),
            schedule=draw(st.sampled_from(schedules)),
            seed=draw(st.integers(0, 3)),
        )
        return to_horizon(spec, draw(st.integers(5, 12)))

    return draw(st.lists(specs(), min_size=1, max_size=6)), draw(st.integers(1, 6))


@settings(
    max_examples=20,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # what fails is small already
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(populations())
def test_a_run_has_the_same_bits_alone_and_in_any_population(drawn: tuple[list[RunSpec], int]) -> None:
    specs, members = drawn
    for spec, ran in zip(specs, run_each(specs, members=members), strict=True):
        assert_same(alone(spec), ran)


def mixed(**given: Any) -> list[RunSpec]:
    """Runs of one program with other hyperparameters, schedules and horizons."""
    horizons = (10, 5, 8)
    return [
        to_horizon(make_spec(**NARROW, **{"hparams": {**hparams, "momentum": 0.9}, **given}, seed=seed), steps)
        for seed, (hparams, steps) in enumerate(zip(HPARAMS, horizons, strict=True))
    ]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_moments_survive_a_neighbour_that_leaves_and_one_that_joins(optimizer: str) -> None:
    specs = mixed(optimizer=optimizer, **schedule_of(optimizer))
    assert len(by_program(specs)) == 1
    for spec, ran in zip(specs, run_each(specs, members=2), strict=True):
        assert ran.state is not None and ran.state["optimizer"]
        assert_same(alone(spec), ran)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_the_order_does_not_matter(order: Sequence[int]) -> None:
    specs = mixed()
    for place, ran in zip(order, run_each([specs[place] for place in order], members=3), strict=True):
        assert_same(alone(specs[place]), ran)


@pytest.mark.parametrize("model", ["moe", "mlp", "resnet", "vit", "u_mup"])
def test_every_network_has_a_member_dimension(model: str) -> None:
    tuned: list[dict[str, Any]] = [*HPARAMS]
    if model == "u_mup":
        tuned = [{}, {"attention_multiplier": 2.0, "residual_multiplier": 0.7, "residual_attention_ratio": 2.0},
                 {"activation_multiplier": 0.5, "logits_multiplier": 3.0, "clip_norm": None}]  # fmt: skip
    specs = [of_model(model, hparams=hparams, seed=seed) for seed, hparams in enumerate(tuned)]
    assert len(by_program(specs)) == 1
    for spec, ran in zip(specs, run_each(specs, members=3), strict=True):
        assert_same(alone(spec), ran)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_neighbour_that_becomes_nan_touches_nobody(optimizer: str) -> None:
    given = {**NARROW, **schedule_of(optimizer), "optimizer": optimizer}
    specs = [make_spec(**given, seed=seed) for seed in range(3)]
    specs[1] = make_spec(**given, hparams={"lr": 1e30, "clip_norm": None})
    ran = run_each(specs, members=3)
    assert ran[1].trial.outcome is Outcome.DIVERGED and "training loss" in (ran[1].trial.reason or "")
    for spec, of_it in zip(specs, ran, strict=True):
        assert_same(alone(spec), of_it)
    assert ran[0].trial.outcome is ran[2].trial.outcome is Outcome.OK


def test_tables_that_group_their_tensors_otherwise_share_a_population() -> None:
    """Pieces are cut finer where a neighbour's groups are, and moments are recut when it leaves."""
    specs = [
        to_horizon(make_spec(name, width=32, base_width=16, base_depth=2, seed=seed), 5 + 3 * seed)
        for seed, name in enumerate(("mup_table_3", "depth_mup", "mup"))
    ]
    assert len(by_program(specs)) == 1
    for spec, ran in zip(specs, run_each(specs, members=3), strict=True):
        assert_same(alone(spec), ran)


@pytest.mark.slow  # with two threads on a busy machine
def test_it_holds_with_two_threads() -> None:
    specs = mixed()
    several = run_each(specs, members=3, threads=2)
    for spec, ran in zip(specs, several, strict=True):
        (other,) = run_each([spec], members=1, threads=2)
        assert_same(other, ran)
    alone(specs[0])  # back to one thread
