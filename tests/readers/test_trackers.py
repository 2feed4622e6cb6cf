"""W&B and Optuna: exports, run folders and studies, as their own programs write them."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest

from scalelab.errors import Refused
from scalelab.readers import parse_columns, read
from scalelab.readers.optuna_study import shown
from scalelab.readers.optuna_trials import outcome_of
from scalelab.trials import Outcome
from tests.helpers import tree

CONFIGS = [{"lr": 0.1, "model": {"d_model": 64}}, {"lr": 0.2, "model": {"d_model": 128}}]
SUMMARIES = [{"eval/loss": 3.5, "lr": 0.0, "_step": 9}, {"eval/loss": float("nan"), "lr": 0.0, "_step": 4}]
NAMES = ["one", "two"]


def _documented(path: Path) -> None:
    """As the script in W&B's documentation exports a project: dicts, printed into a CSV."""
    pd.DataFrame({"summary": SUMMARIES, "config": CONFIGS, "name": NAMES}).to_csv(path)


def _prefixed(path: Path) -> None:
    rows = [
        {
            "name": name,
            **{f"config.{k}": v for k, v in config.items()},
            **{f"summary.{k}": v for k, v in summary.items()},
        }
        for name, config, summary in zip(NAMES, CONFIGS, SUMMARIES, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _nested(path: Path) -> None:
    rows = [
        {"name": name, "config": {k: {"value": v, "desc": None} for k, v in config.items()}, "summary": summary}
        for name, config, summary in zip(NAMES, CONFIGS, SUMMARIES, strict=True)
    ]
    path.write_text(json.dumps(rows))


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.csv", _documented), ("a.jsonl", _prefixed), ("a.json", _nested)],
    ids=["documented", "prefixed", "nested"],
)
def test_exports_of_a_wandb_project(name: str, write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / name)
    found = read([tmp_path / name])
    assert found.table[["run", "width", "lr"]].to_dict("list") == {"run": NAMES, "width": [64, 128], "lr": [0.1, 0.2]}
    assert found.table["loss_nats"][0] == 3.5 and math.isnan(found.table["loss_nats"][1])
    assert found.guessed["lr"].startswith("config.lr, ") and "steps" not in found.guessed


@pytest.fixture
def wandb_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two offline runs as wandb itself writes them, the second of which failed."""
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for config, name, code in zip(CONFIGS, NAMES, (0, 1), strict=True):
        run = wandb.init(project="p", mode="offline", dir=tmp_path, name=name, config=config)
        for step in range(300):
            run.log({"eval/loss": 4.0 - step / 1000, "train": {"loss": 1.0, "text": "x" * 200}}, step=step)
        run.finish(exit_code=code)
    seen: dict[str, tuple[int, bytes]] = {}
    while seen != (seen := records(tmp_path)):  # its service writes on for a moment
        time.sleep(1.0)
    return tmp_path


def records(folder: Path) -> dict[str, tuple[int, bytes]]:
    """What wandb has written of runs; its logs go on for longer."""
    return {name: file for name, file in tree(folder).items() if name.endswith(".wandb")}


def test_wandb_run_folders(wandb_folder: Path) -> None:
    before = records(wandb_folder)
    assert len(before) == 2
    found = read([wandb_folder])
    table = found.table.sort_values("run")  # of two in one second wandb's names have no order
    assert table[["run", "width", "lr", "loss_nats", "outcome"]].to_dict("list") == {
        "run": NAMES, "width": [64, 128], "lr": [0.1, 0.2], "loss_nats": [3.701, 3.701], "outcome": ["OK", "FAILED"],
    }  # fmt: skip
    assert found.guessed["loss_nats"] == "summary.eval/loss, by its name"
    assert records(wandb_folder) == before


def test_a_wandb_run_that_was_killed_is_no_result_and_a_damaged_one_is_refused(wandb_folder: Path) -> None:
    file = sorted(wandb_folder.glob("wandb/offline-run-*/run-*.wandb"), key=lambda file: file.stat().st_mtime)[0]
    data = file.read_bytes()
    assert len(data) > 2 * 32 * 1024, "messages are to cross the blocks of the file"
    file.write_bytes(data[:-400])
    found = read([file])
    assert found.table["outcome"].tolist() == ["FAILED"] and found.table["lr"].tolist() == [0.1]
    file.write_bytes(data[:5000] + b"?" + data[5001:])
    with pytest.raises(Refused, match="is corrupt at byte"):
        read([file])


def test_the_files_beside_a_wandb_run_are_read_too(wandb_folder: Path) -> None:
    folder = sorted(wandb_folder.glob("wandb/offline-run-*"))[0]
    (folder / "files" / "config.yaml").write_text("batch_tokens:\n  value: 512\n_wandb:\n  value: {}\n")
    (folder / "files" / "wandb-summary.json").write_text('{"tokens": 1000000, "eval/loss": 9}')
    row = read([folder]).table.iloc[0]
    assert (row["batch_tokens"], row["tokens"], row["loss_nats"]) == (512, 1e6, 3.701)


@pytest.fixture(params=["sqlite", "journal"])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A source with one study "lr sweep" of every kind of ending."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = tmp_path / "my runs"
    folder.mkdir()
    storage: Any = f"sqlite:///{folder / 'study.db'}"
    source = str(storage)
    if request.param == "journal":
        source = str(folder / "journal.log")
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(source))

    def objective(trial: Any) -> float:
        trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        trial.set_user_attr("tokens", 1_000_000)
        if trial.number == 1:
            raise optuna.TrialPruned
        if trial.number == 2:
            raise OSError("the disk is full")
        if trial.number == 3:
            return math.inf
        if trial.number == 4:
            trial.report(math.nan, step=1)
            return math.nan
        return 3.0

    optuna.create_study(study_name="lr sweep", storage=storage).optimize(objective, 5, catch=(OSError,))
    return source


@pytest.mark.parametrize("state", [optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED])
def test_a_trial_of_a_run_that_was_stopped_early_is_no_result(state: optuna.trial.TrialState) -> None:
    trial = optuna.trial.create_trial(
        state=state, value=3.0, params={}, distributions={}, user_attrs={"outcome": str(Outcome.PRUNED)}
    )
    assert outcome_of(trial) == "FAILED"


def test_optuna_studies(study: str, tmp_path: Path) -> None:
    before = tree(tmp_path)
    found = read([study])
    assert found.table["outcome"].tolist() == ["OK", "FAILED", "FAILED", "DIVERGED", "DIVERGED"]
    assert found.table["run"].tolist() == [f"lr sweep/{number}" for number in range(5)]
    assert found.table["tokens"].tolist() == [1e6] * 5 and found.table["loss_nats"][0] == 3.0
    assert {ours: said.split(",")[0] for ours, said in found.guessed.items()} == {
        "lr": "params_lr", "tokens": "user_attrs_tokens", "loss_nats": "value",
    }  # fmt: skip
    assert read([f"{study}#lr sweep"]).table.equals(found.table)
    assert tree(tmp_path) == before
    with pytest.raises(Refused, match=r"unknown study 'lr swep'.*did you mean 'lr sweep'"):
        read([f"{study}#lr swep"])


def test_what_is_maximized_is_no_loss_until_it_is_said(tmp_path: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = f"sqlite:///{tmp_path / 'a.db'}"
    for name in ("a", "b"):
        optuna.create_study(study_name=name, storage=storage, direction="maximize").optimize(
            lambda trial: trial.suggest_float("lr", 0.1, 1), 2
        )
    with pytest.raises(Refused, match=r"holds 2 studies, a, b: name one, .*#a"):
        read([storage])
    assert "loss_nats" not in read([f"{storage}#a"]).table
    told = read([str(tmp_path / "a.db#b")], columns=parse_columns(["loss_nats=maximized_value"]))
    assert told.table["loss_nats"].tolist() == told.table["lr"].tolist()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("sqlite:///absent.db", "there is no file absent.db"),
        (Path("sqlite:///absent.db"), "a storage is written sqlite:///PATH"),
        ("oracle://host/db", "unknown kind of storage 'oracle': accepted are mysql, postgresql, sqlite"),
        ("sqlite://", "there is no file"),
    ],
)
def test_storages_that_are_none(source: str | Path, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match=said):
        read([source])
    assert list(tmp_path.iterdir()) == []  # Optuna would have made the database


@pytest.mark.parametrize(
    ("url", "printed"),
    [
        ("postgresql://me:s3cret@host/db#a", "postgresql://me:***@host/db#a"),
        ("mysql+pymysql://me@host/db", "mysql+pymysql://me@host/db"),
        ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
        ("runs/a:b@c.csv", "runs/a:b@c.csv"),
    ],
)
def test_a_password_is_not_printed(url: str, printed: str) -> None:
    assert shown(url) == printed


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("a.parquet", "pyarrow", "parquet"), ("a.wandb", "wandb", "wandb")],
)
def test_a_package_that_is_not_installed_is_named_by_its_extra(
    name: str, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for loaded in [loaded for loaded in sys.modules if loaded.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(b"?")
    with pytest.raises(Refused, match=rf"pip install 'scalelab\[{extra}\]'"):
        read([tmp_path / name])
