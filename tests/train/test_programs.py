"""Which runs are one program, and how many of them are trained together."""

from dataclasses import replace
from typing import Any

import pytest

from scalelab import programs
from scalelab.networks import build
from scalelab.programs import by_program, member_bytes, members, program
from scalelab.shape import Architecture
from scalelab.spec import RunSpec
from tests.conftest import make_spec
from tests.train.running import of_model, to_horizon

SAME: dict[str, dict[str, Any]] = {
    "learning rate": {"hparams": {"lr": 3.0}},
    "weight decay": {"hparams": {"weight_decay": 0.7}},
    "betas and eps": {"hparams": {"beta1": 0.5, "beta2": 0.5, "eps": 1e-3}},
    "clipping": {"hparams": {"clip_norm": None}},
    "init": {"hparams": {"init_gain": 0.1, "embedding_std": 2.0}},
    "multipliers": {
        "hparams": {
            "attention_multiplier": 2.0, "residual_multiplier": 2.0, "logits_multiplier": 2.0,
            "embedding_multiplier": 2.0,
        }
    },
    "schedule": {"schedule": "cosine"},
    "horizon": {"tokens": 6400},
    "seed": {"seed": 7},
    "table": {"parametrization": "mup_table_3"},
}  # fmt: skip
OTHER: dict[str, dict[str, Any]] = {
    "width": {"width": 32},
    "depth": {"depth": 3},
    "head dimension": {"sizes": {"heads": 2}},
    "ffn": {"sizes": {"ffn": 128}},
    "architecture": {"architecture": Architecture(mlp="gelu", biases=True)},
    "model": {"model": "moe"},
    "optimizer": {"optimizer": "sgd"},
    "z-loss": {"hparams": {"z_loss": 1e-4}},
    "balance loss": {"hparams": {"balance_loss": 0.0}},
    "dtype": {"dtype": "bfloat16"},
    "the attention constant of the table": {"parametrization": "sp", "base_sizes": {"heads": 4}},
    "the residual constant of the table": {"parametrization": "completep", "base_depth": 1},
}


@pytest.mark.parametrize("what", SAME)
def test_members_may_differ_in(what: str) -> None:
    given = dict(SAME[what])
    name = given.pop("parametrization", "mup")
    assert program(make_spec(name, **given)) == program(make_spec())


@pytest.mark.parametrize("what", OTHER)
def test_members_may_not_differ_in(what: str) -> None:
    given = dict(OTHER[what])
    base_depth = given.get("base_depth", 2)
    assert program(make_spec("mup", base_sizes=given.get("base_sizes"), base_depth=base_depth)) != program(
        make_spec(given.pop("parametrization", "mup"), **given)
    )


def test_members_may_not_differ_in_what_they_read() -> None:
    spec = make_spec()
    for data in (replace(spec.data, sha256="0" * 64), replace(spec.data, validation_tokens=512),
                 replace(spec.data, unique_tokens=512)):  # fmt: skip
        assert program(replace(spec, data=data)) != program(spec)
    assert program(replace(spec, data=replace(spec.data, options=(("path", "elsewhere"),)))) == program(spec)
    batch = replace(spec, horizon=replace(spec.horizon, batch_tokens=32))
    assert program(batch) != program(spec)


def test_a_unit_scaled_network_is_another_program() -> None:
    unit = of_model("u_mup")
    plain = make_spec("sp", width=32, architecture=unit.architecture)
    assert program(unit) != program(plain)


def test_runs_are_sorted_by_program_in_their_order() -> None:
    specs = [make_spec(), make_spec(width=32), make_spec(seed=1), make_spec(width=32, seed=1), make_spec(seed=2)]
    assert list(by_program(specs).values()) == [[0, 2, 4], [1, 3]]
    assert by_program([]) == {}


def with_batch(spec: RunSpec, batch_tokens: int) -> RunSpec:
    return to_horizon(replace(spec, horizon=replace(spec.horizon, batch_tokens=batch_tokens, tokens=batch_tokens)), 4)


def test_on_a_core_small_networks_are_stacked_and_wide_ones_are_not() -> None:
    """`CPU_MEMBERS` by width, as long as a step has few tokens."""
    for width, most in programs.CPU_MEMBERS:
        heads = {"heads": 1}
        assert members(with_batch(make_spec(width=width, sizes=heads), 64)) == most
        assert members(with_batch(make_spec(width=width + 2, sizes=heads), 64)) < most
    wide = programs.CPU_MEMBERS[-1][0]
    assert members(make_spec(width=2 * wide, sizes={"heads": 1})) == 1
    narrow = make_spec(width=16)
    counts = [members(with_batch(narrow, tokens)) for tokens in (64, 512, 2048, 4096, 16384)]
    assert counts == sorted(counts, reverse=True) and counts[-2:] == [1, 1] and counts[0] > 1
    for tokens in (512, 1024, 2048):
        assert members(with_batch(narrow, tokens)) * tokens <= programs.CPU_TOKENS


def test_on_a_gpu_as_many_as_fit() -> None:
    spec = make_spec(width=64)
    one = member_bytes(spec)
    assert members(spec, free_bytes=0) == members(spec, free_bytes=one) == 1
    assert members(spec, free_bytes=10 * one) == 8  # a share of the free memory, the rest is the allocator's
    assert members(spec, free_bytes=10**15) == programs.GPU_MEMBERS


def test_the_bytes_of_a_member_are_at_least_its_tensors_and_grow_with_its_batch() -> None:
    for spec in (make_spec(width=64), of_model("moe"), of_model("vit"), make_spec(width=256, depth=4)):
        weights = 4 * sum(p.numel() for p in build(spec).parameters())
        assert 4 * weights <= member_bytes(with_batch(spec, spec.shape.context)) < member_bytes(spec)
        half = replace(spec, dtype="bfloat16")
        assert 4 * weights < member_bytes(half) < member_bytes(spec)
