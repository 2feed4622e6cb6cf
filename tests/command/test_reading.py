"""What a command writes → its losses: lines that come in parts, files that are cut short, garbage."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from scalelab.command import reading
from scalelab.command.reading import Lines, Seen, Source, source_of
from scalelab.errors import Refused
from scalelab.external import Reading
from tests.command.commanding import wait_for

KEYS = (("loss", "train.loss"), ("step", "step"), ("tokens", "n"), ("validation_loss", "val"))


def objects(path: Path, **given: str) -> Source:
    return source_of(Reading(kind="jsonl", keys=KEYS, **given), path, bytes_per_token=4.0)


def text(path: Path, *patterns: str) -> Source:
    return source_of(Reading(kind="regex", patterns=patterns, result="last_training"), path, bytes_per_token=None)


def new(source: Source, *, last: bool = False) -> list[Seen]:
    return list(source.new(last=last))


def test_objects_are_read_as_they_appear(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    source = objects(file)
    assert new(source) == []
    file.write_text('{"step": 1, "train.loss": 3.5, "n": 64}\n{"step": 2, "tra')
    assert new(source) == [Seen(loss=3.5, step=1, tokens=64)]
    with file.open("a") as more:
        more.write('in": {"loss": "2.5"}}\n{"step": 3, "val": 2')
    assert new(source) == [Seen(loss=2.5, step=2)]
    assert new(source) == []
    assert new(source, last=True) == []  # a line that is no JSON yet never was one
    with file.open("a") as more:
        more.write('}\n{"step": 4, "val": 2}')
    assert new(source, last=True) == [Seen(validation_loss=2.0, step=4)]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "   ",
        "not json",
        "[1, 2]",
        "3",
        "null",
        '{"step": 1',
        '{"a": 1}}',
        "\x00\xff",
        "[" * 100_000,
        '"' + "x" * 100_000,
    ],
)
def test_what_is_no_object_is_left_out(tmp_path: Path, line: str) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text(line + '\n{"train.loss": 1}\n', encoding="latin-1")
    source = objects(file)
    assert [seen.loss for seen in new(source) if seen.loss is not None] == [1.0]


@pytest.mark.parametrize("value", ["true", "null", '"x"', "[1]", "{}", "1e999999", '""'])
def test_what_is_no_number_is_no_loss(tmp_path: Path, value: str) -> None:
    (tmp_path / "log.jsonl").write_text(f'{{"train.loss": {value}, "step": {value}}}\n')
    (seen,) = new(objects(tmp_path / "log.jsonl"))
    assert seen.loss is None or seen.loss == math.inf
    assert seen.step is None


def test_nan_is_a_number(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"train.loss": NaN}\n{"val": "inf"}\n')
    first, second = new(objects(tmp_path / "log.jsonl"))
    assert math.isnan(first.loss or 0) and second.validation_loss == math.inf


def test_units_become_nats(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"val": 2}\n')
    (bits,) = new(objects(tmp_path / "log.jsonl", unit="bits_per_token"))
    (byte,) = new(objects(tmp_path / "log.jsonl", unit="bits_per_byte"))
    assert bits.validation_loss == pytest.approx(2 * math.log(2))
    assert byte.validation_loss == pytest.approx(2 * math.log(2) * 4)


@pytest.mark.parametrize("again", [lambda file: file.write_text('{"val": 1}\n'), lambda file: file.unlink()])
def test_a_file_that_is_begun_anew_is_read_anew(tmp_path: Path, again: Callable[[Path], object]) -> None:
    file = tmp_path / "log.jsonl"
    source = objects(file)
    file.write_text('{"val": 3, "step": 10}\n')
    assert len(new(source)) == 1
    again(file)
    assert len(new(source)) <= 1
    file.with_suffix(".new").write_text('{"val": 2}\n')
    file.with_suffix(".new").replace(file)
    assert [seen.validation_loss for seen in new(source)] == [2.0]


def test_a_large_file_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CHUNK_BYTES", 7)
    file = tmp_path / "log.jsonl"
    file.write_text("".join(f'{{"val": {n}}}\n' for n in range(50)))
    assert [seen.validation_loss for seen in new(objects(file))] == [float(n) for n in range(50)]


def test_text_is_searched_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "command.log"
    source = text(file, r"step (?P<step>[\d,]+) .*loss: (?P<loss>\S+)", r"val=(?P<validation_loss>\S+)")
    file.write_text(
        "starting\n  0%|   | 0/10\r 10%|#  | step 1,000 loss: 3.5,\nstep 2 \x1b[32mloss: \x1b[0m2.5 |\n"
        "val=1.25;\nstep x loss: 9\nstep 3 loss: soon\nstep 4 loss: nan"
    )
    found = new(source, last=True)
    assert found[0] == Seen(loss=3.5, step=1000) and found[1] == Seen(loss=2.5, step=2)
    assert found[2] == Seen(validation_loss=1.25)
    assert found[3].loss is None and math.isnan(found[4].loss or 0)


def test_only_the_beginning_of_a_line_is_searched(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("x" * 5000 + " loss=1\nloss=2\n")
    assert [seen.loss for seen in new(text(tmp_path / "log", r"loss=(?P<loss>\d+)"))] == [2.0]


def test_a_pattern_that_takes_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PATTERN_SECONDS", -1.0)
    (tmp_path / "log").write_text("loss=1\n")
    with pytest.raises(Refused, match="took over a second for one line"):
        new(text(tmp_path / "log", r"loss=(?P<loss>\d+)"))


def test_where_was_looked_is_said(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    source = objects(file)
    assert source.searched == f"keys 'train.loss', 'val' in {file} (which is not there)"
    file.write_text("junk\n{}\n")
    new(source)
    assert source.searched.endswith("(2 lines, 1 of them no JSON object)")
    assert "pattern 'a(?P<loss>b)' in" in text(file, "a(?P<loss>b)").searched


def test_lines_are_of_any_end(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"a\r\nb\rc\nd")
    lines = Lines(path=tmp_path / "log")
    assert list(lines.new(last=False)) == ["a", "b", "c"]
    assert list(lines.new(last=True)) == ["d"]


@pytest.mark.slow
def test_a_wandb_run_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    run = wandb.init(mode="offline", dir=tmp_path, project="p", settings=wandb.Settings(silent=True, console="off"))
    for step in range(3):
        run.log({"train": {"loss": 3.0 - step}}, step=step)
    run.log({"val/loss": 1.5}, step=3)
    run.finish()
    keys = (("loss", "train.loss"), ("step", "_step"), ("validation_loss", "val/loss"))
    source = source_of(Reading(kind="wandb", keys=keys), tmp_path, bytes_per_token=None)
    monkeypatch.setattr(reading, "WANDB_SECONDS", 0.0)
    found: list[Seen] = []
    wait_for(lambda: found.extend(new(source)) or len(found) == 4)  # W&B writes when it likes, also after the end
    assert [(seen.step, seen.loss) for seen in found[:3]] == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert found[-1] == Seen(validation_loss=1.5, step=3)
    assert new(source, last=True) == []  # each once
    assert "in 1 W&B runs below" in source.searched
