"""Tables of what checks wrote."""

import json
from pathlib import Path

import numpy as np
import pytest

from scalelab.errors import Refused
from scalelab.replications import departures, peaks, separating, singular_values
from tests.helpers import scalelab

QUICK = ("context=32", "batch_tokens=256", "tokens=1024", "width=32", "--seeds", "2", "--steps", "2")
LOGITS = "max attention logit"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("checks")
    for lr in ("0.01", "0.1"):
        scalelab("check", "--stability", *QUICK, "--depths", "1,2", f"lr={lr}", "-o", str(made / lr))
    scalelab("check", "--lazy", *QUICK, "--depths", "1,2", "-o", str(made / "of lazy"))
    return made


def test_a_run_is_its_peaks(folder: Path) -> None:
    found = peaks(folder, (LOGITS, "max |output logit|"))
    assert len(found) == 2 * 2 * 2 and found["check"].tolist() == ["0.01"] * 4 + ["0.1"] * 4
    assert (found["lr"] == found["check"].astype(float)).all() and set(found["depth"]) == {1, 2}
    small, large = (found[found["lr"] == lr][LOGITS].mean() for lr in (0.01, 0.1))
    assert 0 < small < large


def test_a_run_has_its_branches(folder: Path) -> None:
    found = departures(folder)
    assert len(found) == 2 * 2 * 2 and set(found["branch"]) == {"attention out", "mlp out"}
    assert (found["departure"] > 0).all() and (found["steps"] == 2).all()


def test_what_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no lazy checks below"):
        departures(tmp_path)
    with pytest.raises(Refused, match=r"0\.01 has no 'router logit'"):
        peaks(folder, ("router logit",))


@pytest.mark.parametrize(
    ("values", "outcome", "expected"),
    [
        ((1, 4, 9, 100), (False, False, True, True), 6.0),
        ((9, 1, 100, 4), (True, False, True, False), 6.0),  # in any order
        ((1, 2, 3, 64, 100), (False, True, False, True, True), np.sqrt(3 * 64)),  # one mistake
        ((1, 100), (False, True), 10.0),
        ((1, 2, 2, 3), (False, False, True, True), np.sqrt(2)),  # one mistake, wherever the border
        ((1, 2, 2, 3), (False, True, False, True), np.sqrt(2)),
    ],
)
def test_outcomes_are_separated(values: tuple[float, ...], outcome: tuple[bool, ...], expected: float) -> None:
    assert separating(values, outcome) == pytest.approx(expected)


def test_outcomes_that_are_alike_are_not_separated() -> None:
    with pytest.raises(Refused, match="all alike"):
        separating((1.0, 2.0), (True, True))
    with pytest.raises(Refused, match="values that are all alike"):
        separating((2.0, 2.0), (False, True))


def test_singular_values_are_a_row_a_matrix_of_each_run(tmp_path: Path) -> None:
    one = {
        "name": "blocks.*.mlp.up.weight", "time_scales": 4.0,
        "top": [[[2.0, 3.0], [2.1, 3.1]], [[2.5, 4.0], [2.6, 4.1]]],
        "stable_rank": [[[8.0, 5.0], [8.0, 5.1]], [[16.0, 9.0], [16.0, 9.1]]],
    }  # fmt: skip
    plain = {"parametrization": "mup", "weight_decay_policy": "root_width", "lr": 0.02, "steps": [0, 64],
             "values": [32, 64], "matrices": [one]}  # fmt: skip
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "spectrum_mup_width.json").write_text(json.dumps(plain))
    found = singular_values(tmp_path)
    assert found[["width", "seed", "top", "stable_rank"]].to_numpy().tolist() == [
        [32, 0, 3.0, 5.0], [32, 1, 3.1, 5.1], [64, 0, 4.0, 9.0], [64, 1, 4.1, 9.1],
    ]  # fmt: skip
    assert set(found["check"]) == {"root"} and set(found["steps"]) == {64} and set(found["time_scales"]) == {4.0}
    with pytest.raises(Refused, match="no spectrum checks below"):
        singular_values(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"lr": ', "is no whole JSON"),
        ("[]", "is no check"),
        ("{}", "has no 'parametrization'"),
        ('{"parametrization": "sp", "lr": 1, "steps": 2, "values": [1], "axis": "width"}', "has no 'branches'"),
    ],
)
def test_a_file_that_is_not_whole_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "lazy_sp_width.json").write_text(text)
    with pytest.raises(Refused, match=rf"lazy_sp_width\.json {words}.*scalelab check"):
        departures(tmp_path)
