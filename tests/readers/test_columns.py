"""Whose column is which: told, our own, guessed and shown, or asked about."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.errors import Refused
from scalelab.readers import COLUMNS, Constant, Runs, parse_columns, read
from scalelab.readers.names import KNOWN, spellings
from scalelab.readers.numbers import numbers

Reading = Callable[..., Runs]
LOSSES = [3.1, 3.0]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("d_model", "width"), ("Hidden Size", "width"), ("n_layers", "depth"), ("numl", "depth"),
        ("N", "params"), ("n_params", "params"), ("Model Size", "params"), ("total_params", "params"),
        ("N_no_embed", "params_non_embedding"), ("non_embedding_params", "params_non_embedding"),
        ("params_active_precise", "params_active"), ("D", "tokens"), ("Training Tokens", "tokens"),
        ("Training FLOP", "cost_flops"), ("flops", "cost_flops"), ("unique_tokens", "unique_tokens"),
        ("num_experts", "experts"), ("learning_rate", "lr"), ("peak_lr", "lr"), ("max-lr", "lr"),
        ("wd", "weight_decay"), ("dataset_name", "data"), ("run_name", "run"),
        ("config.model.d_model", "width"), ("config.optimizer.lr", "lr"), ("params_lr", "lr"),
    ],
)  # fmt: skip
def test_well_known_names_are_guessed_and_shown(theirs: str, ours: str, reading: Reading) -> None:
    found = reading({theirs: [64.0, 128.0] if ours != "lr" else [0.01, 0.02], "val_loss": LOSSES})
    assert sorted(found.table.columns) == sorted(["loss_nats", ours])
    assert found.guessed["loss_nats"] == "val_loss, by its name"
    if ours not in COLUMNS or theirs != ours:
        assert found.guessed[ours].startswith(f"{theirs}, ")


@pytest.mark.parametrize("theirs", ["eval/loss", "val_loss", "final_loss", "loss", "train/loss", "loss_c4_val"])
def test_a_loss_alone_is_the_loss(theirs: str, reading: Reading) -> None:
    found = reading({"lr": [0.1, 0.2], theirs: LOSSES, "loss_upper": [9, 9], "aux_loss": [1, 2]})
    assert found.table["loss_nats"].tolist() == LOSSES
    assert found.conventions["loss"] == f"nats a token, column {theirs!r} (taken as nats)"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"loss": [3, 4], "smooth loss": [3, 3]},
            "'loss' and 'smooth loss' could each be loss_nats: say which.*smoothed",
        ),
        ({"loss": [3, 4], "val_loss": [3, 3]}, "'loss' and 'val_loss' could each be .*--column loss_nats=loss"),
        ({"loss_c4": [3, 4], "loss_pile": [3, 3]}, "'loss_c4' and 'loss_pile' could each be loss_nats"),
        ({"total_params": [3, 4], "dense_params": [3, 3]}, "could each be params: say which and what it counts"),
        ({"Hidden Size": [3, 4], "d_model": [3, 3]}, "--column 'width=Hidden Size'"),
    ],
)
def test_two_candidates_are_a_question(columns: Mapping[str, Any], said: str, reading: Reading) -> None:
    with pytest.raises(Refused, match=said):
        reading(columns)


@pytest.mark.parametrize(
    ("columns", "taken"),
    [
        ({"lr": [1, 2], "peak_lr": [3, 4]}, "lr"),  # our own name
        ({"learning_rate": [1, 2], "max_lr": [3, 4]}, "max_lr"),  # the other may be the last one
        ({"config.lr": [1, 2], "summary.lr": [3, 4]}, "config.lr"),
        ({"learning_rate": [1, 2], "Learning Rate": [1, 2]}, "learning_rate"),  # they say the same
    ],
)
def test_an_obviously_better_one_is_taken(columns: Mapping[str, Any], taken: str, reading: Reading) -> None:
    assert reading(columns).table["lr"].tolist() == list(columns[taken])


@pytest.mark.parametrize("name", ["_step", "warmup", "min_lr", "accuracy", "d", "t", "runtime", "params_of_interest"])
def test_what_only_sounds_like_it_is_left_alone(name: str, reading: Reading) -> None:
    assert list(reading({"loss_nats": LOSSES, name: [100, 200]}).table.columns) == ["loss_nats"]


def test_every_well_known_name_is_spelled_as_names_are_compared() -> None:
    for ours, tiers in KNOWN.items():
        names = [name for tier in tiers for name in tier]
        assert len(names) == len(set(names)), ours
        for name in names:
            assert spellings(name) == [(name, 0)], (ours, name)


def test_no_name_is_known_for_two_of_ours() -> None:
    names = [name for tiers in KNOWN.values() for tier in tiers for name in tier]
    assert sorted(names) == sorted(set(names))


def test_a_count_that_is_not_stated_says_how_to_state_it(reading: Reading) -> None:
    found = reading({"N": [1e6, 2e6], "loss": LOSSES})
    assert found.table["params"].tolist() == [1e6, 2e6]
    assert found.conventions["params"] == "with or without embeddings not stated (params)"
    assert any("--column params_non_embedding=N" in note for note in found.notes)
    told = reading({"N": [1e6, 2e6], "loss": LOSSES}, "params_non_embedding=N")
    assert told.conventions["params"] == "without embeddings (params_non_embedding)" and not told.notes


def test_a_stated_count_is_taken_before_one_that_is_not(reading: Reading) -> None:
    found = reading({"N": [2e6, 3e6], "N_no_embed": [1e6, 2e6], "loss": LOSSES})
    assert "params" not in found.table and "params" not in found.guessed
    assert any("'N' is left out" in note and "--column params_total=N" in note for note in found.notes)


def test_constants_stand_in_every_row_and_an_empty_one_leaves_out(reading: Reading) -> None:
    options = ("batch_tokens:=512", "data:=c4", "seed:=")
    found = reading({"loss_nats": LOSSES, "seed": [1, 2], "data": ["x", "y"]}, *options)
    assert found.table.to_dict("list") == {"data": ["c4", "c4"], "batch_tokens": [512, 512], "loss_nats": LOSSES}
    assert found.conventions["batch"] == "tokens, 512 in every row"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["lr"], "accepted is NAME=THEIRS"),
        (["lr=a", "lr=b"], "lr is given already"),
        (["lr=a", "log2_lr=b"], "lr is given already, and one column states lr"),
        (["batch_tokens=a", "batch_sequences=b"], "batch_tokens is given already"),
        (["params_billions=a", "params=b"], "params_billions is given already"),
        (["sequence_lenght:=2"], "did you mean 'sequence_length'"),
    ],
)
def test_options_are_checked_before_anything_is_read(options: list[str], said: str) -> None:
    with pytest.raises(Refused, match=said):
        parse_columns(options)


def test_options_as_a_mapping() -> None:
    assert parse_columns(["lr=x=y", "tokens:=1e9", "seed:="]) == {
        "lr": "x=y", "tokens": Constant("1e9"), "seed": Constant(""),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "options", "said"),
    [
        ({"lr": [0.1], "N": ["many"]}, ["params=N"], "column 'N' holds 'many': params needs numbers"),
        ({"lr": ["small"], "loss": [3]}, [], "column 'lr' holds 'small'"),
        ({"lr": [0.1], "x": [np.nan]}, ["tokens=x"], "column 'x' is empty"),
        ({"lr": [0.1], "loss_nats": [np.nan]}, [], "column 'loss_nats' is empty"),
        ({"lr": [0.1]}, ["batch_tokens:=many"], "many in every row holds 'many'"),
        ({"colour": ["red"], "run": ["a"]}, [], "no column of it is known"),
    ],
)
def test_columns_without_numbers(columns: Mapping[str, Any], options: list[str], said: str, reading: Reading) -> None:
    with pytest.raises(Refused, match=said):
        reading(columns, *options)


def test_an_empty_column_that_nobody_asked_for_is_left_out(reading: Reading) -> None:
    found = reading({"lr": [0.1], "loss": [3], "seed": [np.nan], "width": [np.nan], "D": [np.nan]})
    assert list(found.table.columns) == ["lr", "loss_nats"]
    assert {note.split(" ")[1] for note in found.notes} == {"'width'", "'seed'", "'D'"}


@pytest.mark.parametrize(
    ("written", "number"),
    [("1.4B", 1.4e9), ("300M", 3e8), ("300 m", 3e8), ("2e9", 2e9), ("1,000,000", 1e6), ("70k", 7e4), ("-inf", -np.inf),
     ("1.5T", 1.5e12), ("NaN", np.nan), ("-", np.nan)],
)  # fmt: skip
def test_numbers_as_people_write_them(written: str, number: float) -> None:
    found = numbers(pd.Series([written, "1"]))
    assert found.unreadable is None
    np.testing.assert_equal(found.values.to_numpy(), np.array([number, 1.0]))


@pytest.mark.parametrize("written", ["1,4", "e5", "12 apples", ".", "1.4BB", "0x10", "1_000x"])
def test_what_is_no_number_is_not_guessed_at(written: str) -> None:
    assert numbers(pd.Series([written, "1"])).unreadable == written


@given(st.floats(min_value=1, max_value=999), st.sampled_from([("k", 1e3), ("M", 1e6), ("B", 1e9), ("T", 1e12)]))
def test_a_suffix_multiplies(number: float, suffix: tuple[str, float]) -> None:
    letter, factor = suffix
    assert numbers(pd.Series([f"{number!r}{letter}"])).values[0] == number * factor


def test_interpreted_text_is_said(reading: Reading) -> None:
    found = reading({"N": ["300M", "1.4B"], "loss": LOSSES}, "params_total=N")
    assert found.table["params_total"].tolist() == [3e8, 1.4e9]
    assert found.notes == ("column 'N' is read as numbers, '300M' as 3e+08",)


def test_a_hundred_thousand_rows_take_about_a_second(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 100_000
    pd.DataFrame(
        {"run": [f"run-{i}" for i in range(n)], "N": [f"{i + 1}k" for i in range(n)], "D": rng.integers(1e9, 1e11, n),
         "lr": rng.uniform(1e-4, 1e-2, n), "loss": rng.uniform(2, 4, n)}
    ).to_csv(tmp_path / "many.csv", index=False)  # fmt: skip
    started = time.perf_counter()
    assert len(read([tmp_path / "many.csv"]).table) == n
    assert time.perf_counter() - started < 5  # the machine may be busy; alone it takes a third of a second
