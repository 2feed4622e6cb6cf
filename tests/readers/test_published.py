"""Published sweeps, read as their authors left them: what is guessed of each, what is asked, what is derived."""

from pathlib import Path

import pytest

from scalelab.errors import Refused
from scalelab.readers import parse_columns, read


def test_steplaw_needs_two_words_and_finds_the_rest(published: Path) -> None:
    """arXiv:2503.04715: sequences of 2,048 tokens, stated in the paper and not in the file."""
    file = published / "steplaw" / "dense_lr_bs_loss.csv"
    with pytest.raises(Refused, match="'loss' and 'smooth loss' could each be loss_nats"):
        read([file])
    found = read([file], columns=parse_columns(["loss_nats=smooth loss", "params_non_embedding=N"]))
    assert len(found.table) == 1911
    assert found.table["batch_tokens"].tolist() == (2048 * found.table["batch_tokens"] // 2048).tolist()
    assert "sequences of 2048 tokens" in found.conventions["batch"]
    assert found.conventions["loss"] == "nats a token, column 'smooth loss' (smoothed)"
    assert {ours: said.split(",")[0] for ours, said in found.guessed.items()} == {
        "run": "exp_name", "width": "h", "depth": "numl", "tokens": "D", "batch_tokens": "bs", "steps": "ti",
    }  # fmt: skip


def test_chinchilla_s_tokens_follow_from_its_flops(published: Path) -> None:
    """Digitized from arXiv:2203.15556's figure, where C = 6ND by construction."""
    found = read([published / "epoch_chinchilla" / "svg_extracted_data.csv"])
    assert set(found.table.columns) == {"params", "tokens", "cost_flops", "loss_nats"} and len(found.table) == 245
    assert found.conventions["tokens"] == "derived, C/(6N)"


def test_porian_s_derived_tokens_are_those_of_the_file(published: Path) -> None:
    file = published / "porian" / "isoflop_points_rw.csv"
    derived, told = read([file]).table, read([file], columns=parse_columns(["tokens=t"])).table
    assert derived["tokens"].tolist() == pytest.approx(told["tokens"].tolist(), rel=1e-9)


def test_gemstones_rows_are_checkpoints(published: Path) -> None:
    found = read([published / "gemstones" / "wandb_df_for_fitting_hot.jsonl"])
    assert found.table["batch_tokens"].eq(2**22).all()
    assert "params_active" in found.table and found.table["run"].nunique() == 22
    assert any("22 of 22 runs have rows at several numbers of tokens" in note for note in found.notes)


def test_gadre_s_many_losses_are_a_question(published: Path) -> None:
    file = published / "gadre" / "testbed_small.csv"
    with pytest.raises(Refused, match="could each be loss_nats"):
        read([file])
    found = read([file], columns=parse_columns(["loss_nats=loss_c4_val"]))
    assert "params_non_embedding" in found.table and "params" not in found.table
    assert any("'bs' is left out" in note for note in found.notes)


def test_routing_s_counts_are_a_question(published: Path) -> None:
    file = published / "routing" / "curves.csv.gz"
    with pytest.raises(Refused, match="'total_parameter_count' and 'dense_parameter_count' could each be params"):
        read([file], columns=parse_columns(["loss_nats=loss_c4"]))


def test_datablations_keeps_unique_tokens(published: Path) -> None:
    table = read([published / "datablations" / "c4_repeat_runs_182.csv"]).table
    assert list(table.columns) == ["run", "params", "tokens", "unique_tokens", "loss_nats"] and len(table) == 182
