"""Every replication of sweeps/ has what its page says: studies that compose, small tables, a verdict that follows."""

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scalelab.catalogue_measured import replicated
from scalelab.replications import Agreement, Replication, head, read, replications
from tests.conftest import ROOT
from tests.helpers import scalelab

STUDIES = list(replications(ROOT))
FILES = [file for each in STUDIES for size in ("proxy", "gpu") for file in sorted(each.folder.glob(f"{size}*.yaml"))]
SECTIONS = ("Question", "Hyperparameters", "Decision rule", "Budget", "Found", "Repeat it")
LARGEST_BYTES = 100_000


def names(each: Replication) -> str:
    return each.name


@pytest.mark.parametrize("each", STUDIES, ids=names)
def test_a_study_is_whole(each: Replication) -> None:
    assert sorted(each.folder.glob("proxy*.yaml")) and sorted(each.folder.glob("gpu*.yaml"))
    assert (ROOT / "analysis" / f"{each.name}.ipynb").exists()
    assert all(re.fullmatch(r"\d{4}\.\d{5}", number) for number in each.claim.arxiv)
    tables = sorted(each.folder.glob("*.csv"))
    assert all(0 < table.stat().st_size <= LARGEST_BYTES for table in tables)
    if each.verdict.agreement is not Agreement.NOT_RUN:
        assert each.folder / "results.csv" in tables and len(each.runs()) > 0


@pytest.mark.parametrize("each", STUDIES, ids=names)
def test_the_log_is_headed_by_the_verdict_and_says_the_rest(each: Replication) -> None:
    log = (each.folder / "LOG.md").read_text()
    assert log.startswith(head(each, each.verdict))
    assert [section for section in SECTIONS if f"\n## {section}" not in log] == []
    assert f"sweeps/replicate.sh {each.name}" in log


def test_the_page_has_a_row_for_every_claim() -> None:
    _, rows = replicated(ROOT)
    assert len(rows) == len(STUDIES) and len({row[0] for row in rows}) == len(rows)
    assert all(re.search(r"\d", row[2]) for row in rows), "what was seen is said in numbers"


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_study_file_asks_a_question_and_keeps_its_runs_by_its_name(file: Path) -> None:
    text = file.read_text()
    assert "# Question:" in text and "# Budget:" in text
    assert re.search(rf"^study: {file.parent.name}(/\w+)?$", text, flags=re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_run_of_a_study_can_be_planned(file: Path, tmp_path: Path) -> None:
    here: list[str] = []
    fetched, prepared = "data: enwik8" in file.read_text(), (file.parent / "prepare.sh").exists()
    if fetched or prepared:  # large texts: small ones stand for them
        for name in ("train", "more", "val"):
            (tmp_path / f"{name}.txt").write_text(f"{name} " * 300_000)
        paths = [f"{tmp_path}/train.txt", *([f"{tmp_path}/more.txt"] if prepared else [])]
        here += ["data=memmap", f"data.path={','.join(paths)}", f"data.val_path={tmp_path}/val.txt"]
    said = scalelab("train", "-m", "--dry-run", f"+sweep={file.parent.name}/{file.stem}", f"out={tmp_path}", *here)
    assert said.exit_code == 0, said.stderr
    assert re.search(r"plan: [\d,]+ runs|trials", said.stdout), said.stdout


@pytest.mark.slow
@pytest.mark.parametrize("each", STUDIES, ids=names)
def test_the_notebook_finds_the_verdict_again(each: Replication, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "sweeps" / each.name, tmp_path / "sweeps" / each.name)
    (tmp_path / "sweeps" / each.name / "verdict.json").unlink()
    script = ROOT / "analysis" / f"{each.name}.py"
    ran = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "MPLBACKEND": "agg"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    again = read(each.name, tmp_path).verdict
    assert again.agreement == each.verdict.agreement
    assert [found.name for found in again.findings] == [found.name for found in each.verdict.findings]
    for found, before in zip(again.findings, each.verdict.findings, strict=True):
        for ours, theirs in ((found.value, before.value), (found.low, before.low), (found.high, before.high)):
            assert (ours is None) == (theirs is None), found
            if ours is not None and theirs is not None:
                width = 0.0 if before.low is None or before.high is None else before.high - before.low
                assert ours == theirs or math.isclose(ours, theirs, rel_tol=0.02, abs_tol=0.02 * width), found
