"""Collections: all of every final trial in one file, read instead of the folders and never against them."""

import builtins
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from scalelab import counted, readers
from scalelab.collection import COLLECTION_FILE, Collected, collect, collected, trials
from scalelab.collection import table as file_format
from scalelab.errors import Refused
from scalelab.readers.folders import folder_runs
from scalelab.shape import Architecture
from scalelab.status import look
from scalelab.trials import Outcome, RunFolder, Trial, run_folders
from tests.conftest import ROOT, make_spec
from tests.helpers import one_line, scalelab, sweep, tree, valley, write_trial

MADE = {"host": "node1", "device": "cpu", "threads": "1", "torch": "2.13.0", "note": "naïve “quotes”\n"}


def varied() -> list[Trial]:
    """Trials that differ in all that a trial may have."""
    first = make_spec(width=32)
    return [
        Trial(spec=first, outcome=Outcome.OK, loss_nats=3.0),
        Trial(
            spec=replace(first, seed=1), outcome=Outcome.OK, loss_nats=0.1 + 0.2, loss_se_nats=1e-300,
            loss_bits_per_byte=1.5, train_loss_nats=2.9, tokens_seen=640, trunk_tokens=64, cost_flops=3 * 10**24,
            seconds=2.25, energy_joules=12.5, provenance=MADE,
        ),
        Trial(spec=replace(first, seed=2), outcome=Outcome.DIVERGED, loss_nats=None, reason="at step 1"),
        Trial(spec=make_spec("sp", width=64, dtype="bfloat16", base_tokens=1280), outcome=Outcome.OK, loss_nats=2.0),
        Trial(spec=replace(first, hparams=replace(first.hparams, weight_decay=0)), outcome=Outcome.OK, loss_nats=2.5),
    ]  # fmt: skip


def stored(study: Path, found: Sequence[Trial]) -> list[RunFolder]:
    folders = [RunFolder(study / trial.spec.fingerprint) for trial in found]
    for folder, trial in zip(folders, found, strict=True):
        folder.write(trial)
    return folders


def test_nothing_is_lost(tmp_path: Path) -> None:
    written = varied()
    folders = stored(tmp_path, written)
    plain = json.loads((folders[0].path / "trial.json").read_text()) | {"of a later scalelab": [1, {"a": None}]}
    (folders[0].path / "trial.json").write_text(json.dumps(plain))
    (came,) = collect(tmp_path)
    assert (came.runs, came.new, came.gone, came.not_final, came.unreadable) == (5, 5, 0, 0, 0)
    found = dict(trials(tmp_path))
    assert found == {trial.spec.fingerprint: trial for trial in written}
    assert {name: trial.spec.fingerprint for name, trial in found.items()} == {name: name for name in found}
    table = collected(tmp_path)
    assert table is not None
    texts = {row["run"]: json.loads(row["trial"]) for row in table.select(["run", "trial"]).to_pylist()}
    assert texts == {folder.path.name: json.loads((folder.path / "trial.json").read_text()) for folder in folders}
    only = written[2].spec.fingerprint
    assert dict(trials(tmp_path, [only])) == {only: written[2]}


def test_what_has_not_ended_is_left_out_and_collected_again_only_what_is_new_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = varied()
    stored(tmp_path, written[:3])
    RunFolder(tmp_path / "failed").write(Trial(spec=make_spec(seed=9), outcome=Outcome.FAILED, loss_nats=None))
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "trial.json").write_text('{"version": 1, "spe')
    (tmp_path / "torn" / ".trial.json.0123.tmp").write_text("half")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "metrics.jsonl").touch()
    assert collect(tmp_path) == [Collected(study=tmp_path, runs=3, new=3, gone=0, not_final=1, unreadable=1)]
    stored(tmp_path, written[3:])
    read, plain = [], RunFolder.plain
    monkeypatch.setattr(RunFolder, "plain", lambda self: read.append(self.path.name) or plain(self))  # type: ignore[func-returns-value]
    assert collect(tmp_path)[0].new == 2
    assert set(read) == {trial.spec.fingerprint for trial in written[3:]} | {"failed", "torn"}
    assert set(dict(trials(tmp_path))) == {trial.spec.fingerprint for trial in written}
    before = tree(tmp_path)
    assert collect(tmp_path)[0].new == 0 and tree(tmp_path) == before


def test_the_table_of_a_fit_is_the_same_with_and_without(tmp_path: Path) -> None:
    sweep(tmp_path / "b", valley(), parametrizations=("mup", "sp"), widths=(32, 64))
    sweep(tmp_path / "a" / "deep", lambda spec: None if spec.seed else 3.0, log2_lrs=[-5, -4])
    RunFolder(tmp_path / "b" / "0pruned").write(Trial(spec=make_spec(seed=7), outcome=Outcome.PRUNED, loss_nats=None))
    without, specs = folder_runs(tmp_path)
    assert [came.runs for came in collect(tmp_path)] == [12, 56]
    late = make_spec(seed=8)
    for at in ("a/deep", "b"):
        write_trial(tmp_path / at, late, 3.0)
    for at in ("a/deep", "b"):
        (tmp_path / at / late.fingerprint / "trial.json").rename(tmp_path / f"{at.replace('/', '')}.json")
    with_it, same = folder_runs(tmp_path)
    pd.testing.assert_frame_equal(with_it, without)
    assert same == specs
    assert without["run"].tolist() == [str(run.path) for run in run_folders(tmp_path)]
    (tmp_path / "b.json").rename(tmp_path / "b" / late.fingerprint / "trial.json")  # has ended since
    assert len(folder_runs(tmp_path)[0]) == len(without) + 1


def test_what_is_in_the_collection_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(tmp_path, valley())
    collect(tmp_path)
    touched: list[str] = []
    opened, scandir = builtins.open, os.scandir
    monkeypatch.setattr(
        builtins, "open", lambda file, *rest, **given: touched.append(str(file)) or opened(file, *rest, **given)
    )  # type: ignore[func-returns-value]
    monkeypatch.setattr(os, "scandir", lambda path: touched.append(str(path)) or scandir(path))  # type: ignore[func-returns-value]
    look([tmp_path])
    assert touched == [f"{tmp_path}/trial.json", str(tmp_path)]
    touched.clear()
    folder_runs(tmp_path)
    assert touched[0] == str(tmp_path) and len(touched) == 2 and touched[1].endswith("trial.json")  # of the largest


def test_status_is_the_same_with_and_without(tmp_path: Path) -> None:
    stored(tmp_path / "one", varied())
    stored(tmp_path / "two", varied()[:2])
    (tmp_path / "one" / "begun").mkdir()
    (tmp_path / "one" / "begun" / "metrics.jsonl").touch()
    without = look([tmp_path], now=0.0)
    collect(tmp_path / "one")
    assert look([tmp_path], now=0.0) == without


def test_folders_say_which_runs_there_are(tmp_path: Path) -> None:
    folders = stored(tmp_path, varied())
    collect(tmp_path)
    gone, again = folders[1], folders[0]
    for file in gone.path.iterdir():
        file.unlink()
    gone.path.rmdir()
    assert len(folder_runs(tmp_path)[0]) == 4 and look([tmp_path])[0].runs == 4
    changed = replace(again.read(), loss_nats=9.0, seconds=1.0)  # removed by hand, and trained again
    again.write(changed)
    assert (
        9.0 not in folder_runs(tmp_path)[0]["loss_nats"].tolist()
    )  # until it is collected: final trials do not change
    (came,) = collect(tmp_path)
    assert (came.runs, came.new, came.gone) == (5, 1, 1) and "1 of them without a folder now" in came.summary()
    assert 9.0 in folder_runs(tmp_path)[0]["loss_nats"].tolist()
    found = dict(trials(tmp_path))
    assert found[again.path.name] == changed and found[gone.path.name] == varied()[1]  # and what is gone is kept


def test_a_mixture_is_refused_with_a_collection_too(tmp_path: Path) -> None:
    sweep(tmp_path, valley(), log2_lrs=[-6, -5])
    other = make_spec(width=32, architecture=Architecture(mlp="relu"))
    write_trial(tmp_path, other, 3.0)
    collect(tmp_path)
    with pytest.raises(Refused, match=r"mup/adamw runs differ in architecture.mlp \('(gelu|relu)' and '(gelu|relu)'\)"):
        readers.read([tmp_path])


def test_the_template_is_the_largest_run_with_its_spec(tmp_path: Path) -> None:
    specs = sweep(tmp_path, valley(), log2_lrs=[-6, -5], parametrizations=("mup", "sp"))
    for _ in range(2):
        template = readers.read([tmp_path]).template
        assert template is not None and set(template) == {"mup/adamw", "sp/adamw"}
        assert template["mup/adamw"]["shape"]["width"] == max(spec.shape.width for spec in specs)
        collect(tmp_path)


def test_the_file_by_itself_is_a_table_of_runs(tmp_path: Path) -> None:
    sweep(tmp_path / "study", valley())
    collect(tmp_path)
    alone = readers.read([tmp_path / "study" / COLLECTION_FILE]).table
    folders = readers.read([tmp_path / "study"]).table
    for name in ("width", "lr", "loss_nats", "tokens", "seed", "params_non_embedding", "cost_flops"):
        assert alone[name].tolist() == folders[name].tolist(), name


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path) -> None:
    stored(tmp_path / "study", varied())
    result = scalelab("collect", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert " ".join(result.stdout.split()).endswith("trials.parquet: 5 runs, 5 new")
    run = tmp_path / "study" / varied()[0].spec.fingerprint
    assert f"is the folder of a run: give its study's, {tmp_path}/study" in one_line(scalelab("collect", str(run)))
    (tmp_path / "empty").mkdir()
    assert "no trials in" in one_line(scalelab("collect", str(tmp_path / "empty")))
    assert "no folder" in one_line(scalelab("collect", str(tmp_path / "absent")))


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"PAR1 and no more", "cannot be read|is corrupt"), (b"", "cannot be read|is corrupt")],
)
def test_a_file_that_is_no_collection_is_refused_in_one_line(content: bytes, said: str, tmp_path: Path) -> None:
    stored(tmp_path, varied())
    (tmp_path / COLLECTION_FILE).write_bytes(content)
    for command in ("status", "collect", "fit"):
        line = one_line(scalelab(command, str(tmp_path)))
        assert "trials.parquet is corrupt" in line or "trials.parquet cannot be read" in line
        assert "remove it, `scalelab collect` makes it again" in line


def test_another_table_and_a_later_version_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path, varied())
    pd.DataFrame({"run": ["a"]}).to_parquet(tmp_path / COLLECTION_FILE)
    assert "is no collection of runs" in one_line(scalelab("status", str(tmp_path)))
    (tmp_path / COLLECTION_FILE).unlink()
    with monkeypatch.context() as later:
        later.setattr(file_format, "VERSION", 2)
        collect(tmp_path)
    assert "is a collection of version 2, of a later scalelab: this one reads version 1" in one_line(
        scalelab("fit", str(tmp_path))
    )


WITHOUT = """
import sys
sys.modules["pyarrow"] = None
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "pyarrow" else found(name, *rest)
from scalelab.cli import app
app(sys.argv[1:])
"""


def test_without_pyarrow_the_folders_are_read_and_collecting_is_refused(tmp_path: Path) -> None:
    stored(tmp_path, varied())
    collect(tmp_path)
    ran = [
        subprocess.run(
            [sys.executable, "-c", WITHOUT, command, str(tmp_path)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )
        for command in ("status", "collect")
    ]  # fmt: skip
    assert ran[0].returncode == 0 and "5 of 5" in ran[0].stdout, ran[0].stderr
    assert ran[1].returncode == 2 and ran[1].stderr.count("\n") == 1
    assert "need pyarrow: pip install 'scalelab[parquet]'" in ran[1].stderr


# --- what is said meanwhile -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("terminal", "seconds"), [(True, 0.0), (True, 1e9), (False, 0.0)])
def test_a_bar_is_shown_on_a_terminal_where_it_takes_long(
    terminal: bool, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counted, "QUIET_SECONDS", seconds)
    output = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    assert list(counted.counted(range(2_000), "reading", total=2_000, console=output)) == list(range(2_000))
    text: Any = output.file
    assert ("reading" in text.getvalue()) is (terminal and seconds == 0.0)
