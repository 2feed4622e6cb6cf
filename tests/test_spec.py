"""Specs: complete, exact, and identified by everything a result depends on."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.errors import Refused
from scalelab.parametrizations import TABLES
from scalelab.shape import Architecture
from scalelab.spec import Horizon, Hparams, as_plain, from_plain
from tests.conftest import make_spec


def test_round_trip_through_json() -> None:
    spec = make_spec(depth=3, hparams={"clip_norm": None})
    assert from_plain(json.loads(json.dumps(as_plain(spec)))) == spec


def test_fingerprints_of_every_table_are_the_same_in_another_process() -> None:
    code = "from scalelab.parametrizations import TABLES; print(*(table.digest for table in TABLES.values()))"
    code += "; from tests.conftest import make_spec; print(make_spec().fingerprint)"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert seen.stdout.split() == [*(table.digest for table in TABLES.values()), make_spec().fingerprint]


def test_everything_a_result_depends_on_changes_the_fingerprint() -> None:
    spec = make_spec()
    others = [
        make_spec("sp"),
        make_spec(seed=1),
        make_spec(width=96),
        make_spec(base_width=64),
        make_spec(hparams={"lr": 0.02}),
        make_spec(architecture=Architecture(mlp="relu")),
        make_spec(tokens=1280),
        replace(spec, data=replace(spec.data, sha256="0" * 64)),
        replace(spec, data=replace(spec.data, validation_tokens=512)),
        replace(spec, data=replace(spec.data, unique_tokens=512)),
    ]
    assert len({spec.fingerprint, *(other.fingerprint for other in others)}) == len(others) + 1


def test_runs_on_all_tokens_have_the_names_they_had() -> None:
    """`unique_tokens` came later than other settings; where it is not given no record may show it."""
    assert "unique_tokens" not in as_plain(make_spec())["data"]
    part = replace(make_spec(), data=replace(make_spec().data, unique_tokens=512))
    assert from_plain(json.loads(json.dumps(as_plain(part)))) == part


def test_where_the_data_lie_does_not() -> None:
    spec = make_spec()
    elsewhere = replace(spec, data=replace(spec.data, options=(("path", "/somewhere"),)))
    assert elsewhere.fingerprint == spec.fingerprint


@pytest.mark.parametrize("lr", [0.0, -1.0, math.nan, math.inf])
def test_bad_learning_rates_are_refused(lr: float) -> None:
    with pytest.raises(Refused, match="lr="):
        Hparams(lr=lr)


def test_horizon_of_a_broken_step_is_refused_with_the_nearest_ones() -> None:
    with pytest.raises(Refused, match="try tokens=1024 or 1536"):
        Horizon(tokens=1200, batch_tokens=512)


@given(
    schedule=st.sampled_from(["cosine", "linear", "wsd", "constant"]),
    steps=st.integers(1, 300),
    warmup=st.floats(0, 0.5),
    final=st.floats(0, 1),
)
def test_schedules_rise_once_and_never_leave_their_bounds(
    schedule: str, steps: int, warmup: float, final: float
) -> None:
    horizon = Horizon(
        tokens=steps * 8,
        batch_tokens=8,
        schedule=schedule,
        warmup_fraction=warmup,
        final_lr_ratio=final,  # type: ignore[arg-type]
    )
    factors = [horizon.lr_factor(step) for step in range(steps)]
    rising = horizon.warmup_steps
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[:rising] == sorted(factors[:rising])
    assert factors[rising:] == sorted(factors[rising:], reverse=True)
    if schedule == "constant":
        assert all(factor == 1 for factor in factors[rising:])


def test_schedule_values() -> None:
    wsd = Horizon(tokens=100, batch_tokens=10, schedule="wsd", warmup_fraction=0.2, decay_fraction=0.4)
    assert [round(wsd.lr_factor(s), 3) for s in range(10)] == [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    cosine = Horizon(tokens=40, batch_tokens=10, schedule="cosine", warmup_fraction=0, final_lr_ratio=0.1)
    assert [round(cosine.lr_factor(s), 4) for s in range(4)] == [
        round(0.1 + 0.9 * (1 + math.cos(math.pi * s / 4)) / 2, 4) for s in range(4)
    ]


def test_depth_scaled_init_and_a_branch_multiplier_do_not_mix() -> None:
    depth_scaled = Architecture(mlp="gelu", residual_init="depth-scaled")
    make_spec("mup", architecture=depth_scaled)
    for table in ("depth_mup", "completep", "completep_half"):
        with pytest.raises(Refused, match="not to be combined"):
            make_spec(table, architecture=depth_scaled)


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(Refused, match="did you mean 'completep'"):
        make_spec("complettep")
    with pytest.raises(Refused, match="unknown optimizer 'adam'"):
        make_spec(optimizer="adam")


def test_a_spec_of_another_version_is_refused() -> None:
    plain = as_plain(make_spec())
    plain["hparams"]["warp"] = 9
    with pytest.raises(Refused, match="not a run specification"):
        from_plain(plain)
