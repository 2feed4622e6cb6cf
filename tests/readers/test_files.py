"""Files: the same table from every kind, and one line for everything that holds none."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalelab.errors import Refused
from scalelab.readers import read, text
from scalelab.readers.kinds import FILES, STUDIES
from scalelab.spec import as_plain
from scalelab.trials import RunFolder
from tests.conftest import make_spec
from tests.helpers import one_line, scalelab, tree, write_trial

TABLE = pd.DataFrame({"run": ["a", "b"], "width": [64, 128], "lr": [0.1, 0.2], "loss_nats": [3.25, 3.125]})


def _json(path: Path) -> None:
    path.write_text(json.dumps(TABLE.to_dict("records")))


def _jsonl(path: Path) -> None:
    TABLE.to_json(path, orient="records", lines=True)


WRITERS: dict[str, Callable[[Path], object]] = {
    ".csv": lambda path: TABLE.to_csv(path, index=False),
    ".csv.gz": lambda path: TABLE.to_csv(path, index=False),
    ".tsv": lambda path: TABLE.to_csv(path, index=False, sep="\t"),
    ".tsv.gz": lambda path: TABLE.to_csv(path, index=False, sep="\t"),
    ".parquet": lambda path: TABLE.to_parquet(path),
    ".jsonl": _jsonl,
    ".jsonl.gz": _jsonl,
    ".json": _json,
}


def test_every_kind_of_table_is_tried_here() -> None:
    assert set(WRITERS) == set(FILES) - {".wandb"}


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_kind_gives_the_same_table(suffix: str, tmp_path: Path) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"runs{suffix}"
    WRITERS[suffix](path)
    found = read([path])
    pd.testing.assert_frame_equal(found.table, TABLE, check_dtype=False)
    assert found.guessed == {} and found.notes == ()


def test_blank_lines_and_capital_suffixes_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "A.CSV").write_text("\n\nlr,loss_nats\n0.1,3\n\n")
    (tmp_path / "A.JSONL").write_text('\n{"lr": 0.1, "loss_nats": 3, "note": "a\u2028b"}\n')
    for name in ("A.CSV", "A.JSONL"):
        assert read([tmp_path / name]).table.to_dict("list") == {"lr": [0.1], "loss_nats": [3]}


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "excel.csv").write_bytes(b"\xef\xbb\xbflr,loss_nats\n0.1,3\n")
    (tmp_path / "excel.jsonl").write_bytes(b'\xef\xbb\xbf{"lr": 0.1, "loss_nats": 3}\n')
    for name in ("excel.csv", "excel.jsonl"):
        assert list(read([tmp_path / name]).table.columns) == ["lr", "loss_nats"]


# What is written, and what is said of it.
UNREADABLE: dict[str, tuple[bytes, str]] = {
    "nothing.csv": (b"", "cannot be read as csv: it is empty"),
    "blank.csv": (b"\n\n", "cannot be read as csv: it is empty"),
    "binary.csv": (b"\xff\xfe\x00" * 50, "cannot be read as csv: byte 0 is not UTF-8"),
    "huge field.csv": (b"lr,loss" + b"s" * 200_000 + b"\n1,2\n", "cannot be read as csv: field larger than"),
    "deep.json": (b"[" * 100_000, "cannot be read as json"),
    "latin1.csv": ("lr,loss_nats\n1,2\nµ,3\n".encode("latin1"), "byte 17 is not UTF-8, save it as UTF-8"),
    "ragged.csv": (b"lr,loss_nats\n1,2\n1,2,3,4\n", "cannot be read as csv"),
    "wide.csv": (b"lr,loss_nats\n1,2,3\n1,2,3\n", "its rows have more fields than its header"),
    "header.csv": (b"lr,loss_nats\n", "has no rows"),
    "twice.csv": (b"lr,loss,loss\n1,2,3\n", "has two columns named 'loss'"),
    "semicolons.csv": (b"lr;loss_nats\n1;2\n", "has one column, 'lr;loss_nats': it is separated by semicolons"),
    "tabs.csv": (b"lr\tloss_nats\n1\t2\n", "it is separated by tabs, use commas or name it .tsv"),
    "commas.tsv": (b"lr;loss_nats\n1;2\n", "it is separated by semicolons"),
    "panel.csv": (b"Step,a - loss,a - loss__MIN,a - loss__MAX\n1,2,2,2\n", "curves of a W&B panel"),
    "torn.csv.gz": (gzip.compress(b"lr,loss_nats\n" + b"1,2\n" * 99)[:-20], "cannot be read as csv.gz"),
    "plain.csv.gz": (b"lr,loss_nats\n1,2\n", "cannot be read as csv.gz"),
    "bad.jsonl": (b'{"lr": 0.1}\n{"lr": \n', "cannot be read as jsonl: line 2 is not JSON"),
    "numbers.jsonl": (b"1\n2\n", "accepted are objects"),
    "object.json": (b'{"lr": 0.1}', "accepted is a list of objects"),
    "none.json": (b"[]", "has no rows"),
    "bad.parquet": (b"PAR1 and then nothing", "cannot be read as parquet"),
    "empty.parquet": (b"", "cannot be read as parquet"),
    "bad.wandb": (b":W&B\xe1\xbe\x00" + b"x" * 7 + b"\x01" * 50, "no column of it is known"),
    "text.wandb": (b"hello", "is no W&B run"),
    "bad.db": (b"\x01\x02" * 500, "cannot be read as an Optuna storage"),
    "empty.db": (b"", "is a database without an Optuna study"),
    "my.log": (b"epoch 1: loss 3\n", "it is no Optuna journal"),
    "table.xlsx": (b"?", "unknown kind of file '.xlsx': accepted are .csv, .csv.gz, .db, .journal, .json"),
    "README": (b"?", "unknown kind of file 'README'"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_table_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    for suffix, needed in ((".parquet", "pyarrow"), (".wandb", "wandb")):
        if name.endswith(suffix):
            pytest.importorskip(needed)
    content, said = UNREADABLE[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refused, match=r"^[^\n]+$") as refused:
        read([tmp_path / name])
    assert said in str(refused.value)
    assert (tmp_path / name).read_bytes() == content and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", sorted((*FILES, *STUDIES)))
@given(content=st.binary(max_size=200))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_but_a_refusal_comes_of_noise(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"noise{suffix}"
    path.write_bytes(content)
    with pytest.raises(Refused):
        read([path])


def test_a_path_that_holds_no_runs_is_refused_in_one_line_by_the_command(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "no run").mkdir()
    (tmp_path / "no run" / "notes.txt").write_text("nothing")
    write_trial(tmp_path / "torn", make_spec(), 3.0)
    (torn,) = (tmp_path / "torn").rglob("trial.json")
    torn.write_text(torn.read_text()[:80])
    (tmp_path / "nothing.csv").write_text("")
    before = tree(tmp_path)
    for name, said in (
        ("missing", "does not exist"),
        ("empty", "no finished run in"),
        ("no run", "no finished run in"),
        ("torn", "is corrupt"),
        ("nothing.csv", "cannot be read as csv"),
    ):
        assert said in one_line(scalelab("fit", str(tmp_path / name), "-o", str(tmp_path / "laws")))
    assert tree(tmp_path) == before


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".jsonl", ".json", ".parquet"])
def test_what_is_far_too_large_is_refused_before_it_is_read(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    many = pd.DataFrame(np.random.default_rng(0).uniform(1, 5, (10_000, 2)).round(12), columns=["width", "loss_nats"])
    path = tmp_path / f"log{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps(many.to_dict("records")))
    elif suffix == ".jsonl":
        many.to_json(path, orient="records", lines=True)
    elif suffix == ".parquet":
        many.to_parquet(path)
    else:
        many.to_csv(path, index=False)
    assert len(read([path]).table) == 10_000
    monkeypatch.setattr(text, "MAX_ROWS", 5_000)
    monkeypatch.setattr(text, "SAMPLE_BYTES", 4_096)
    with pytest.raises(
        Refused, match=r"about ([89](\.\d)?e\+03|1(\.\d)?e\+04) rows, more than 5e\+03: .*aggregate first"
    ):
        read([path])


def test_our_own_folders_come_before_whatever_else_is_in_them(tmp_path: Path) -> None:
    write_trial(tmp_path, make_spec(), 3.0)
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "run-copy.wandb").write_bytes(b"not even read")
    assert len(read([tmp_path]).table) == 1


def test_nested_objects_are_columns(tmp_path: Path) -> None:
    spec = make_spec()
    write_trial(tmp_path, spec, 3.0)
    trial = as_plain(RunFolder(tmp_path / spec.fingerprint).read())
    (tmp_path / "trials.jsonl").write_text(
        json.dumps({"config": {"lr": 0.1, "model": {"d_model": 64}}, **trial}) + "\n"
    )
    found = read([tmp_path / "trials.jsonl"]).table
    assert found[["width", "lr", "loss_nats"]].iloc[0].tolist() == [64, 0.1, 3.0]
