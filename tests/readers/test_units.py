"""Units: converted where they are stated, derived where two columns give a third, refused where columns disagree."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.errors import Refused
from scalelab.readers import Runs
from scalelab.readers.batch import SEQUENCE_LENGTHS
from scalelab.readers.choose import chosen
from scalelab.readers.draft import Draft
from scalelab.readers.names import UNSTATED_BATCH
from scalelab.readers.units import in_our_units

Reading = Callable[..., Runs]


@pytest.mark.parametrize(
    ("columns", "options", "ours", "expected"),
    [
        ({"x": [2.0]}, ["loss_bits=x"], "loss_nats", 2 * math.log(2)),
        ({"x": [1.0], "b": [4.0]}, ["loss_bits_per_byte=x", "bytes_per_token=b"], "loss_nats", 4 * math.log(2)),
        ({"x": [1.0]}, ["loss_bits_per_byte=x", "bytes_per_token:=4"], "loss_nats", 4 * math.log(2)),
        ({"x": [-6.0]}, ["log2_lr=x"], "lr", 2.0**-6),
        ({"x": [-2.0]}, ["log10_lr=x"], "lr", 0.01),
        ({"x": [-2.0]}, ["log_lr=x"], "lr", math.exp(-2)),
        ({"x": [1.4]}, ["params_billions=x"], "params", 1.4e9),
        ({"x": [300]}, ["params_non_embedding_millions=x"], "params_non_embedding", 3e8),
        ({"x": [2.0]}, ["tokens_billions=x"], "tokens", 2e9),
        ({"x": [8]}, ["batch_sequences=x", "sequence_length:=2048"], "batch_tokens", 16384),
        ({"x": [8], "seq_len": [128]}, ["batch_sequences=x"], "batch_tokens", 1024),
        ({"x": [100], "b": [512]}, ["steps=x", "batch_tokens=b"], "tokens", 51200),
        ({"x": [6e6], "D": [1e9]}, ["flops_per_token=x"], "cost_flops", 6e15),
    ],
)
def test_stated_units_are_converted(
    columns: Mapping[str, Any], options: list[str], ours: str, expected: float, reading: Reading
) -> None:
    table = reading(columns, *options).table
    assert table[ours].tolist() == [pytest.approx(expected, rel=1e-12)]
    assert not {"steps", "sequence_length", "bytes_per_token", "flops_per_token"} & set(table.columns)


@pytest.mark.parametrize("name", ["loss_bits", "log2_lr", "params_millions"])
def test_names_in_other_units_convert_in_a_file_too(name: str, reading: Reading) -> None:
    assert list(reading({name: [1.0, 2.0]}).table.columns) == [
        {"loss_bits": "loss_nats", "log2_lr": "lr", "params_millions": "params"}[name]
    ]


@pytest.mark.parametrize(
    ("columns", "options", "said"),
    [
        ({"x": [1.0]}, ["loss_bits_per_byte=x"], "need --column bytes_per_token:=VALUE"),
        ({"val_bpb": [1.0], "lr": [0.1]}, [], "'val_bpb' seems to be in bits: write --column loss_bits=val_bpb"),
        ({"loss_bits_x": [1.0]}, ["loss_nats=loss_bits_x"], "seems to be in bits.*--column loss_bits=loss_bits_x"),
        ({"val_acc": [0.5]}, ["loss_nats=val_acc"], "is no cross entropy by its name"),
        ({"valPpl": [20.0]}, ["loss_nats=valPpl"], "is no cross entropy by its name"),
        ({"a": [3.0, 2.0], "b": [3.0, 2.0]}, ["loss_nats=a", "loss_bits=b"], "state two losses in 2 of 2 rows"),
        ({"x": [8]}, ["batch_sequences=x"], "--column sequence_length:=2048"),
        ({"x": [1], "D": [1e6], "b": [512]}, ["steps=x", "batch_tokens=b"], "differ by more than 1 %"),
        ({"x": [6e6], "lr": [0.1]}, ["flops_per_token=x"], "flops_per_token is used where tokens are known"),
    ],
)
def test_what_cannot_be_converted_is_refused(
    columns: Mapping[str, Any], options: list[str], said: str, reading: Reading
) -> None:
    with pytest.raises(Refused, match=said):
        reading(columns, *options)


def test_two_units_of_one_loss_may_both_stand_where_they_agree(reading: Reading) -> None:
    nats = np.array([3.0, 2.0])
    found = reading({"loss_nats": nats, "loss_bits": nats / np.log(2)})
    assert found.table["loss_nats"].tolist() == nats.tolist()


def test_a_loss_in_nats_is_taken_before_one_that_lacks_its_tokenizer(reading: Reading) -> None:
    found = reading({"val_loss": [3.0], "loss_bits_per_byte": [1.0]})
    assert found.table["loss_nats"].tolist() == [3.0]


@given(
    length=st.sampled_from(SEQUENCE_LENGTHS),
    batch=st.integers(1, 4096),
    steps=st.lists(st.integers(200, 100_000), min_size=1, max_size=5),
)
def test_sequences_are_recognized_from_tokens_and_steps(length: int, batch: int, steps: list[int]) -> None:
    found = _batch([batch * length * s - batch * length // 2 for s in steps], [batch] * len(steps), steps)
    assert found.columns["batch_tokens"].tolist() == [batch * length] * len(steps)
    assert f"in sequences of {length} tokens, from tokens/(batch · steps)" in found.conventions["batch"]


@pytest.mark.parametrize("length", [3, 100, 1500, 131072])
def test_a_length_that_is_no_power_of_two_is_not_made_up(length: int) -> None:
    found = _batch([8 * length * 500], [8], [500])
    assert "batch_tokens" not in found and UNSTATED_BATCH not in found.guessed
    assert "--column batch_tokens=bs, or --column batch_sequences=bs --column sequence_length:=2048" in found.notes[0]


def test_lengths_that_differ_between_rows_are_not_made_up() -> None:
    found = _batch([8 * 1024 * 500, 8 * 2048 * 500], [8, 8], [500, 500])
    assert "batch_tokens" not in found
    assert "is 1024 to 2048, no one length of a sequence" in found.notes[0]


def test_a_batch_in_tokens_is_recognized_too() -> None:
    found = _batch([512 * 500], [512], [500])
    assert found.columns["batch_tokens"].tolist() == [512]
    assert found.conventions["batch"] == "tokens, column 'bs', as tokens/(batch · steps) = 1"


def _batch(tokens: list[int], batch: list[int], steps: list[int]) -> Draft:
    frame = pd.DataFrame({"tokens": tokens, "bs": batch, "steps": steps})
    return in_our_units(chosen("runs.csv", frame, {}))


def test_a_batch_that_nothing_explains_does_not_block(reading: Reading) -> None:
    found = reading({"bs": [64, 128], "lr": [0.1, 0.2], "loss": [3, 4]})
    assert list(found.table.columns) == ["lr", "loss_nats"] and "batch_tokens" not in found.guessed
    assert "'bs' is left out: whether it counts tokens or sequences is not stated; write" in found.notes[0]


def test_a_told_length_makes_a_guessed_batch_one_of_sequences(reading: Reading) -> None:
    found = reading({"bs": [64, 128], "loss": [3, 4]}, "sequence_length:=512")
    assert found.table["batch_tokens"].tolist() == [64 * 512, 128 * 512]
    assert found.guessed["batch_tokens"] == "bs, by its name"


@pytest.mark.parametrize(("length", "batch_tokens"), [(1000, 64_000.0), (1024, None)])
def test_a_length_in_the_file_has_to_agree_with_tokens_and_steps(
    length: int, batch_tokens: float | None, reading: Reading
) -> None:
    found = reading({"bs": [64], "steps": [500], "tokens": [64 * 500 * 1000], "seq_len": [length], "loss": [3]})
    assert (found.table["batch_tokens"][0] if "batch_tokens" in found.table else None) == batch_tokens
    assert ("sequence_length" in found.guessed) == (batch_tokens is not None)


def test_a_length_in_the_file_alone_does_not_say_what_a_batch_counts(reading: Reading) -> None:
    found = reading({"bs": [64], "seq_len": [1024], "loss": [3], "lr": [0.1]})
    assert "batch_tokens" not in found.table and list(found.guessed) == ["loss_nats"]


def test_a_count_in_two_units_is_taken_in_ours(reading: Reading) -> None:
    assert reading({"tokens": [2e9], "tokens_billions": [3.0], "loss": [3]}).table["tokens"].tolist() == [2e9]


def test_steps_that_were_only_guessed_give_way(reading: Reading) -> None:
    found = reading({"step": [10], "batch_tokens": [512], "tokens": [1e6], "loss": [3]})
    assert "steps are not used" in found.notes[0] and "steps" not in found.guessed


@pytest.mark.parametrize(("tokens", "batch"), [([1024000, 2048000], [1024.0, 2048.0]), ([1024000, 2048001], None)])
def test_tokens_and_steps_give_a_batch_that_is_whole(
    tokens: list[int], batch: list[float] | None, reading: Reading
) -> None:
    found = reading({"tokens": tokens, "steps": [1000, 1000], "loss": [3, 4]})
    assert (found.table["batch_tokens"].tolist() if "batch_tokens" in found.table else None) == batch


def test_tokens_are_derived_from_flops_and_say_so(reading: Reading) -> None:
    found = reading({"C": [6e18], "N": [1e9], "loss": [3]})
    assert found.table["tokens"].tolist() == [1e9]
    assert found.conventions["tokens"] == "derived, C/(6N)" and any("D = C/(6N)" in note for note in found.notes)
    assert reading({"C": [6e18], "N": [1e9], "D": [2e9], "loss": [3]}).table["tokens"].tolist() == [2e9]


@pytest.mark.parametrize(
    ("states", "outcomes"),
    [
        (["finished", "crashed", "finished"], ["OK", "FAILED", "DIVERGED"]),
        (["COMPLETE", "PRUNED", "COMPLETE"], ["OK", "FAILED", "DIVERGED"]),
        (["finished", "California", "finished"], None),
    ],
)
def test_other_programs_words_for_the_end_of_a_run(
    states: list[str], outcomes: list[str] | None, reading: Reading
) -> None:
    found = reading({"State": states, "loss": [3.0, 3.0, np.nan], "lr": [0.1] * 3})
    assert (found.table["outcome"].tolist() if "outcome" in found.table else None) == outcomes
    assert any("State" in note for note in found.notes)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"lr": [-3.0, -2.0]}, "column 'lr' is -3 at 2 of 2 rows.*--column log10_lr=lr"),
        ({"lr": [0.1, 600.0]}, "column 'lr' is 600 at 1 of 2 rows"),
        ({"tokens": [1e3, 1e6], "batch_tokens": [2e3, 2e3]}, "1 of 2 rows train on fewer tokens than a batch"),
        ({"N": [1e3, 2e3], "D": [1e9, 1e9], "flops": [6e18, 12e18]}, r"is 1e\+06 × 6ND.*another unit"),
    ],
)
def test_what_cannot_be_meant_is_refused(columns: Mapping[str, Any], said: str, reading: Reading) -> None:
    with pytest.raises(Refused, match=said):
        reading({**columns, "loss": [3.0, 3.1]})


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"N": [1e6, 1e6], "D": [1e9, 1e9], "flops": [6e16, 6e16]}, "is 10 × 6ND .*exact FLOPs, or another N"),
        ({"N": [1e11, 1e11], "D": [1e7, 1e6]}, "are parameters and tokens swapped"),
        ({"run": ["a", "a"], "tokens": [1e6, 2e6]}, "1 of 1 runs have rows at several numbers of tokens"),
        ({"loss": [3.0, np.nan]}, "1 of 2 rows have no finite loss and count as diverged"),
    ],
)
def test_what_is_odd_is_said(columns: Mapping[str, Any], said: str, reading: Reading) -> None:
    notes = reading({"loss": [3.0, 3.1], **columns}).notes
    assert any(re.search(said, note) for note in notes), notes


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.9])
def test_flops_that_are_about_6nd_are_no_news(factor: float, reading: Reading) -> None:
    assert not reading({"params_total": [1e6], "D": [1e9], "flops": [factor * 6e15], "loss": [3.0]}).notes


def test_repeated_rows_are_kept(reading: Reading) -> None:
    assert len(reading({"lr": [0.1, 0.1], "loss": [3.0, 3.0]}).table) == 2
