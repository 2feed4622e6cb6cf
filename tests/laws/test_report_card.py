"""A report card answers from the study and its table, and says "not stated" where they do not."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from scalelab.laws import Laws, study
from scalelab.laws.report_card import NOT_STATED, Item, as_markdown, report_card
from tests.laws.sweeps import sweep
from tests.laws.test_draw import ladder


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    table = sweep(np.random.default_rng(0), seeds=2)
    table.loc[0, "outcome"] = "FAILED"
    return pd.concat([table, table.tail(1)], ignore_index=True)


@pytest.fixture(scope="module")
def laws(runs: pd.DataFrame) -> Laws:
    return study(runs, draws=100, seed=5, sources=["a.csv"])


def about(items: Sequence[Item], words: str) -> Item:
    (found,) = [item for item in items if words in item.question]
    return found


def test_answers_follow_the_study_and_the_table(laws: Laws, runs: pd.DataFrame) -> None:
    card = report_card(laws, runs)
    assert list(dict.fromkeys(item.section for item in card)) == [
        "Hypothesis",
        "Training",
        "Data collection",
        "Fitting",
    ]
    assert about(card, "How many models").answer == "55 runs, 0 of which diverged; 4 scales"
    assert about(card, "shape").answer == "width 128 to 1024 (4 values), depth 4"
    assert about(card, "tokens each").answer.startswith("tokens 1e+08; 1.99 to 127 a parameter")
    assert about(card, "optimizer").answer == "adamw"
    assert "7 learning rates a scale" in about(card, "How were hyperparameters").answer
    assert "parametrization mup" in about(card, "by which rule").answer
    used = about(card, "all points").answer
    assert "1 that failed were dropped" in used and "1 repeated rows were dropped" in used
    assert "octaves off" in about(card, "validity").answer
    assert about(card, "Where did the runs").answer == "a.csv"
    assert about(card, "How is it repeated").answer.startswith("seed 5, 100 draws")
    for fit in laws.groups[0].loss_fits.values():
        assert fit.law.form in about(card, "Which form").answer


def test_what_nobody_said_is_not_stated_with_what_to_state(laws: Laws, runs: pd.DataFrame) -> None:
    card = report_card(laws, runs)
    for words in ("data repeated", "schedule", "training code", "smoothed"):
        item = about(card, words)
        assert item.answer == NOT_STATED and not item.known and item.advice
    assert all(item.advice for item in card if not item.known)
    flops = about(card, "compute counted")
    assert not flops.known and "cost_flops" in flops.answer


def test_conventions_and_columns_answer(laws: Laws, runs: pd.DataFrame) -> None:
    told = replace(
        laws, conventions={"loss": "nats a token, smoothed", "flops": "6ND", "schedule": "cosine", "code": "x"}
    )
    card = report_card(told, runs.assign(unique_tokens=runs["tokens"] / 4))
    assert about(card, "compute counted") == Item(
        section="Training", question="How is compute counted?", answer="6ND", known=True
    )
    assert about(card, "data repeated").answer == "yes, up to 4 epochs"
    assert about(card, "smoothed").answer.startswith("yes") and about(card, "schedule").answer == "cosine"
    assert all(about(card, words).known for words in ("metric, on", "training code"))


def test_without_a_table_the_study_still_answers(laws: Laws) -> None:
    card = report_card(laws)
    assert about(card, "Of which sizes").answer.startswith("params_non_embedding 7.864e+05 to")
    assert not about(card, "checkpoints").known


def test_a_ladder_without_learning_rates() -> None:
    rows = ladder().rename(columns={"params_non_embedding": "params"})
    card = report_card(study(rows, draws=100, laws=["chinchilla"]), rows)
    assert not about(card, "counts as a parameter").known
    assert about(card, "How were hyperparameters").answer == NOT_STATED
    assert "Huber" in about(card, "minimised").answer
    assert about(card, "How many numbers").answer == "chinchilla 5 from 30"
    checkpoints = rows.assign(run=[f"run {place // 2}" for place in range(len(rows))])
    both = report_card(study(checkpoints, draws=100, laws=["chinchilla"]), checkpoints)
    assert "resampled together" in about(both, "checkpoints").answer


def test_groups_that_differ_are_told_apart(runs: pd.DataFrame) -> None:
    table = sweep(np.random.default_rng(1), seeds=2, parametrization="sp", log2_lrs=tuple(range(-10, -5)))
    both = pd.concat([runs, table], ignore_index=True)
    answer = about(report_card(study(both, draws=100), both), "How were hyperparameters").answer
    assert answer.startswith("mup: 7 learning rates") and " | sp: 5 learning rates" in answer


def test_markdown_has_a_heading_a_group_and_a_line_a_question(laws: Laws, runs: pd.DataFrame) -> None:
    card = report_card(laws, runs)
    lines = as_markdown(card).splitlines()
    assert [line for line in lines if line.startswith("## ")] == [
        "## Hypothesis", "## Training", "## Data collection", "## Fitting",
    ]  # fmt: skip
    assert sum(line.startswith("- **") for line in lines) == len(card)
    assert any(line.endswith("not stated *(give the column unique_tokens)*") for line in lines)
