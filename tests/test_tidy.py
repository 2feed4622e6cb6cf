"""`scalelab collect --csv`: a row a run, the usual columns, one for whatever else was varied."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from scalelab.collection import as_csv, tidy
from scalelab.errors import Refused
from scalelab.readers import read
from scalelab.trials import Outcome, RunFolder
from tests.helpers import scalelab, sweep, valley


def test_settings_that_vary_are_columns_and_what_does_not_is_none(tmp_path: Path) -> None:
    specs = sweep(tmp_path / "study" / "a", valley(), widths=(32,), seeds=(0, 1), log2_lrs=[-6, -5])
    table = tidy([tmp_path / "study"])
    assert len(table) == len(specs) and table["part"].unique().tolist() == ["a"]
    assert set(table["lr"]) == {2**-6, 2**-5} and set(table["seed"]) == {0, 1}
    assert not [name for name in table if "." in name]  # the learning rate and the seed have columns of their own
    sweep(tmp_path / "study" / "b", valley(), widths=(32, 64), seeds=(0,), log2_lrs=[-6])
    again = tidy([tmp_path / "study"])
    assert not [name for name in again if "." in name]  # a width says its feed-forward's
    assert set(again["part"]) == {"a", "b"}
    folder = RunFolder(tmp_path / "study" / "a" / specs[0].fingerprint)
    architecture = replace(specs[0].architecture, qk_norm=not specs[0].architecture.qk_norm)
    folder.write(replace(folder.read(), spec=replace(specs[0], architecture=architecture)))
    assert [name for name in tidy([tmp_path / "study"]) if "." in name] == ["architecture.qk_norm"]
    folder.write(replace(folder.read(), spec=replace(specs[0], shape=replace(specs[0].shape, ffn=8))))
    assert [name for name in tidy([tmp_path / "study"]) if "." in name] == ["shape.ffn"]  # it does so no more


def test_options_of_a_corpus_are_columns_and_files_below_this_folder_seen_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (spec,) = sweep(tmp_path / name, valley(), widths=(32,), seeds=(0,), log2_lrs=[-5], parametrizations=("mup",))
        folder = RunFolder(tmp_path / name / spec.fingerprint)
        options = (("format", "text"), ("path", str(tmp_path / f"{name}.txt")))
        folder.write(replace(folder.read(), spec=replace(spec, data=replace(spec.data, options=options))))
    table = tidy([tmp_path])
    assert table["data.path"].tolist() == ["a.txt", "b.txt"] and "data.format" not in table


def test_the_csv_reads_as_the_folders_do(tmp_path: Path) -> None:
    sweep(tmp_path / "runs", lambda spec: None if spec.hparams.lr > 0.05 else 3.0 + spec.hparams.lr, log2_lrs=[-6, -4])
    file = tmp_path / "runs.csv"
    said = scalelab("collect", str(tmp_path / "runs"), "--csv", str(file), "--json")
    assert said.exit_code == 0 and json.loads(said.stdout)["runs"] == len(pd.read_csv(file))
    ours, theirs = (read([path]).table.sort_values("run", ignore_index=True) for path in (file, tmp_path / "runs"))
    for name in ("width", "lr", "seed", "loss_nats", "cost_flops", "params_non_embedding"):
        assert ours[name].tolist() == pytest.approx(theirs[name].tolist(), rel=1e-7, nan_ok=True), name
    assert ours["outcome"].tolist() == theirs["outcome"].tolist()


def test_a_curve_is_the_mean_of_the_second_half_of_each_part(tmp_path: Path) -> None:
    (spec,) = sweep(tmp_path, valley(), widths=(32,), seeds=(0,), log2_lrs=[-5], parametrizations=("mup",))
    folder, steps = RunFolder(tmp_path / spec.fingerprint), spec.horizon.steps
    for step in range(steps // 2):  # it ended halfway
        folder.append(
            {"attempt": 1, "step": step, "tokens": step * spec.horizon.batch_tokens, "loss_nats": float(step)}
        )
    row = tidy([tmp_path], curve=4).iloc[0]
    first = [step for step in range(steps) if 0.5 <= step / steps * 4 < 1]
    assert row["train_loss_1_of_4"] == pytest.approx(sum(first) / len(first))
    assert pd.isna(row["train_loss_3_of_4"]) and "train_loss_3_of_4" in as_csv(tidy([tmp_path], curve=4))


def test_what_has_not_ended_is_left_out_and_nothing_at_all_is_refused(tmp_path: Path) -> None:
    (spec,) = sweep(tmp_path, valley(), widths=(32,), seeds=(0,), log2_lrs=[-5], parametrizations=("mup",))
    folder = RunFolder(tmp_path / spec.fingerprint)
    folder.write(replace(folder.read(), outcome=Outcome.FAILED, loss_nats=None, reason="out of memory"))
    with pytest.raises(Refused, match="no run has ended"):
        tidy([tmp_path])
    with pytest.raises(Refused, match="curve=-1"):
        tidy([tmp_path], curve=-1)
    said = scalelab("collect", str(tmp_path), "--curve", "4")
    assert said.exit_code == 2 and "goes with --csv" in said.stderr


def test_a_run_counts_once(tmp_path: Path) -> None:
    sweep(tmp_path / "study" / "a", valley(), widths=(32,), seeds=(0,), log2_lrs=[-6])
    for twice in ([tmp_path / "study", tmp_path / "study" / "a"], [tmp_path / "study"] * 2):
        with pytest.raises(Refused, match=r"is in .* and in .*: give each run once"):
            tidy(twice)


def test_heads_that_a_width_does_not_say_are_a_column_and_whole_numbers_stay_whole(tmp_path: Path) -> None:
    (spec,) = sweep(tmp_path, valley(), widths=(64,), seeds=(0,), log2_lrs=[-5], parametrizations=("mup",))
    folder = RunFolder(tmp_path / spec.fingerprint)
    other = replace(
        spec, shape=replace(spec.shape, heads=1, kv_heads=1), data=replace(spec.data, unique_tokens=134_217_727)
    )
    RunFolder(tmp_path / "other").write(replace(folder.read(), spec=other))
    table = tidy([tmp_path])
    assert sorted(table["shape.heads"]) == [1, spec.shape.heads] and "shape.kv_heads" in table
    assert "134217727" in as_csv(table)


@pytest.mark.parametrize("line", [b"[1, 2]", b'{"step": 1}', b"3"])
def test_a_foreign_curve_is_refused_by_its_file_and_a_torn_one_is_read(line: bytes, tmp_path: Path) -> None:
    (spec,) = sweep(tmp_path, valley(), widths=(32,), seeds=(0,), log2_lrs=[-5], parametrizations=("mup",))
    curve = tmp_path / spec.fingerprint / "metrics.jsonl"
    curve.write_bytes(b'{"attempt": 1, "step": 1, "tokens": 480, "loss_nats": 3.0}\n{"attempt": 1, "st\xff')
    assert tidy([tmp_path], curve=1)["train_loss_1_of_1"].tolist() == [3.0]
    curve.write_bytes(line + b"\n")
    with pytest.raises(Refused, match=r"metrics\.jsonl is no curve of a run"):
        tidy([tmp_path], curve=1)


@pytest.mark.parametrize("key", ["cost_flops", "seconds"])
def test_a_trial_without_its_cost_is_refused_by_its_file(key: str, tmp_path: Path) -> None:
    (spec,) = sweep(tmp_path, valley(), widths=(32,), seeds=(0,), log2_lrs=[-5], parametrizations=("mup",))
    file = tmp_path / spec.fingerprint / "trial.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: None}))
    with pytest.raises(Refused, match=rf"trial\.json is not a trial \({key}=None"):
        tidy([tmp_path])
