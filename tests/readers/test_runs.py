"""Readers: the same table from run folders, CSV, JSONL and Parquet, and a line for everything that is not one."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from scalelab.collection import collect
from scalelab.errors import Refused
from scalelab.readers import COLUMNS, parse_columns, read
from scalelab.shape import Architecture
from scalelab.spec import as_plain
from scalelab.trials import Outcome, RunFolder, Trial
from tests.conftest import make_spec
from tests.helpers import scalelab, sweep, valley, write_trial

# What run folders state, in the order of `COLUMNS`.
OF_FOLDERS = (
    "run", "parametrization", "optimizer", "data", "width", "depth", "params_non_embedding", "tokens", "batch_tokens",
    "lr", "weight_decay", "cost_flops", "loss_nats", "seed", "outcome",
)  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Run folders of two widths, one of them diverged at the highest learning rate."""
    loss = valley()
    sweep(
        tmp_path / "runs", lambda spec: None if spec.hparams.lr > 0.2 and spec.shape.width == 64 else loss(spec),
        widths=(32, 64), log2_lrs=range(-8, -1), seeds=(0,),
    )  # fmt: skip
    return tmp_path / "runs"


def test_run_folders_become_a_row_a_run(runs: Path) -> None:
    found = read([runs])
    assert tuple(found.table.columns) == OF_FOLDERS == tuple(name for name in COLUMNS if name in OF_FOLDERS)
    assert len(found.table) == 14 and len(found.specs) == 1  # they differ in what a law explains
    assert found.sources == (str(runs),)
    spec = make_spec(width=64, hparams={"lr": 2.0**-6})
    (row,) = (found.table.loc[i] for i in found.table.index if found.table.run[i].endswith(spec.fingerprint))
    assert row["loss_nats"] == valley()(spec)
    assert (row["width"], row["depth"], row["tokens"], row["batch_tokens"]) == (64, 2, 640, 64)
    assert (row["lr"], row["weight_decay"], row["seed"], row["outcome"]) == (2.0**-6, 0.1, 0, "OK")
    assert (row["parametrization"], row["optimizer"], row["data"]) == ("mup", "adamw", "embedded")
    assert row["cost_flops"] == spec.cost_flops
    assert row["params_non_embedding"] == 12 * 2 * 64**2 + (2 * 2 + 1) * 64


def test_a_diverged_run_is_a_row_without_a_loss(runs: Path) -> None:
    table = read([runs]).table
    diverged = table[table["outcome"] == "DIVERGED"]
    assert len(diverged) == 1 and diverged["loss_nats"].isna().all()
    assert table.loc[table["outcome"] == "OK", "loss_nats"].notna().all()


def test_the_template_is_the_largest_run_of_each_kind(tmp_path: Path) -> None:
    sweep(tmp_path, valley(), parametrizations=("sp", "mup"), widths=(64, 32), log2_lrs=(-6,), seeds=(0,))
    template = read([tmp_path]).template
    assert template is not None and set(template) == {"sp/adamw", "mup/adamw"}
    for name in ("sp", "mup"):
        spec = make_spec(name, width=64)
        assert template[f"{name}/adamw"] == as_plain(replace(spec, hparams=replace(spec.hparams, lr=2.0**-6)))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_files_give_the_same_table(suffix: str, runs: Path, tmp_path: Path) -> None:
    table = read([runs]).table
    file = tmp_path / f"runs.{suffix}"
    if suffix == "csv":
        table.to_csv(file, index=False)
    elif suffix == "jsonl":
        table.to_json(file, orient="records", lines=True, double_precision=15)
    else:
        pytest.importorskip("pyarrow")
        table.to_parquet(file)
    found = read([file])
    pd.testing.assert_frame_equal(found.table, table, check_dtype=False)
    assert found.specs == () and found.template is None


def test_folders_and_files_can_be_read_together(runs: Path, tmp_path: Path) -> None:
    read([runs]).table.assign(seed=9).to_csv(tmp_path / "more.csv", index=False)
    found = read([runs, tmp_path / "more.csv"])
    assert len(found.table) == 28 and len(found.specs) == 1
    assert found.sources == (str(runs), str(tmp_path / "more.csv"))


def test_foreign_columns_are_renamed_and_others_left_out(tmp_path: Path) -> None:
    foreign = pd.DataFrame({"val_loss": [3.1, 3.2], "d_model": [64, 128], "lr": [0.01, 0.02], "note": ["a", "b"]})
    foreign.to_csv(tmp_path / "theirs.csv", index=False)
    table = read([tmp_path / "theirs.csv"], columns=parse_columns(["loss_nats=val_loss", "width=d_model"])).table
    assert list(table.columns) == ["width", "lr", "loss_nats"]
    assert table["loss_nats"].tolist() == [3.1, 3.2]


def test_column_maps_are_checked(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("lr,loss\n0.1,3\n")
    for given, said in (
        ("loss_nats", "accepted is NAME=THEIRS"),
        ("loss_nats=", "accepted is NAME=THEIRS"),
        ("loss=loss", "unknown column 'loss'.*did you mean 'loss_nats'"),
    ):
        with pytest.raises(Refused, match=said):
            parse_columns([given])
    with pytest.raises(Refused, match="has no column 'val_loss', it has lr, loss"):
        read([tmp_path / "a.csv"], columns={"loss_nats": "val_loss"})


def test_a_column_that_no_folder_states_stays_out_of_the_whole_table(runs: Path, tmp_path: Path) -> None:
    read([runs]).table.assign(params_total=1e6, unique_tokens=1e5).to_csv(tmp_path / "more.csv", index=False)
    found = read([runs, tmp_path / "more.csv"])
    assert "params_total" not in found.table and "unique_tokens" in found.table
    assert any("params_total is left out" in note for note in found.notes)


def test_counts_of_two_kinds_are_not_mixed(runs: Path, tmp_path: Path) -> None:
    table = read([runs]).table.rename(columns={"params_non_embedding": "params_total"})
    table.to_csv(tmp_path / "more.csv", index=False)
    with pytest.raises(Refused, match=r"parameters are counted differently \(.*params_non_embedding; .*params_total\)"):
        read([runs, tmp_path / "more.csv"])


def test_what_two_sources_say_differently_is_said_by_source(runs: Path, tmp_path: Path) -> None:
    read([runs]).table.rename(columns={"loss_nats": "val_loss"}).to_csv(tmp_path / "more.csv", index=False)
    found = read([runs, tmp_path / "more.csv"])
    assert (
        found.conventions["lr"] == f"{runs}: peak; {tmp_path / 'more.csv'}: peak, from column 'lr' (taken as the peak)"
    )
    assert found.guessed == {"loss_nats": "val_loss, by its name"}


def test_runs_that_no_law_explains_together_are_refused_by_the_key(tmp_path: Path) -> None:
    write_trial(tmp_path, make_spec(), 3.0)
    write_trial(tmp_path, make_spec(width=96, seed=1, tokens=1280), 3.1)  # these may differ
    write_trial(tmp_path, make_spec("sp", base_width=64), 3.1)  # and so may another parametrization's
    assert len(read([tmp_path]).table) == 3
    write_trial(tmp_path / "more", make_spec(architecture=Architecture(mlp="relu")), 3.2)
    with pytest.raises(Refused, match=r"mup/adamw runs differ in architecture\.mlp \('.*' and '.*'\)"):
        read([tmp_path])


def test_runs_of_repeated_data_have_their_unique_tokens(tmp_path: Path) -> None:
    plain = make_spec(width=32)
    specs = [replace(plain, data=replace(plain.data, unique_tokens=unique)) for unique in (160, 320)]
    for spec in specs:
        write_trial(tmp_path, spec, 3.0)
    for _ in ("run folders", "a collection"):
        table = read([tmp_path]).table
        assert sorted(table["unique_tokens"]) == [160, 320]
        collect(tmp_path)
    write_trial(tmp_path, plain, 3.0)  # one that does not say
    with pytest.raises(Refused, match=r"runs differ in data\.unique_tokens \(.*None"):
        read([tmp_path])


@pytest.mark.parametrize("key", ["base.width", "hparams.eps", "horizon.schedule", "data.sha256"])
def test_every_other_key_is_named_too(key: str, tmp_path: Path) -> None:
    spec = make_spec()
    part, name = key.split(".")
    value = {"width": 16, "eps": 1e-9, "schedule": "constant", "sha256": "0" * 64}[name]
    write_trial(tmp_path, spec, 3.0)
    write_trial(tmp_path, replace(spec, **{part: replace(getattr(spec, part), **{name: value})}), 3.0)
    with pytest.raises(Refused, match=key):
        read([tmp_path])


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.PRUNED])
def test_a_run_that_failed_or_was_stopped_early_is_a_row_that_no_law_uses(outcome: Outcome, tmp_path: Path) -> None:
    sweep(tmp_path, valley(), seeds=(0,))
    spec = make_spec(width=64, seed=5)
    RunFolder(tmp_path / "failed").write(
        Trial(spec=spec, outcome=outcome, loss_nats=None, tokens_seen=320, reason="out of memory, or of luck")
    )
    assert (read([tmp_path]).table["outcome"] == "FAILED").sum() == 1
    result = scalelab("fit", str(tmp_path), "-o", str(tmp_path / "laws"), "--no-plots")
    assert result.exit_code == 0, result.output
    (group,) = json.loads((tmp_path / "laws" / "laws.json").read_text())["groups"]
    assert group["n_failed"] == 1 and group["n_runs"] == 21
