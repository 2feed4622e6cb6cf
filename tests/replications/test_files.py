"""The files of a replication: read, judged, written again."""

import json
from pathlib import Path

import pandas as pd
import pytest

from scalelab.errors import Refused
from scalelab.replications import Agreement, Finding, conclude, head, read, replications

FOUND = Finding(name="slope", value=-0.123456, low=-0.2, high=-0.1, unit="octaves a doubling", n=12)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "sweeps" / "width"
    folder.mkdir(parents=True)
    (folder / "claim.toml").write_text('claim = "It stays"\npaper = "A paper, Somebody 2022"\narxiv = ["2203.03466"]\n')
    (folder / "LOG.md").write_text("## Question\n\nDoes it?\n")
    (folder / "results.csv").write_text(
        "run,width,lr,seed,loss_nats,outcome,architecture.qk_norm,horizon.schedule\n"
        "a,16,0.1,0,2.5,OK,True,None\nb,32,0.1,0,,DIVERGED,False,linear\n"
    )
    return tmp_path


def test_runs_are_checked_and_keep_what_else_varied(root: Path) -> None:
    runs = read("width", root).runs()
    assert runs["architecture.qk_norm"].tolist() == [True, False] and runs["outcome"].tolist() == ["OK", "DIVERGED"]
    assert runs["horizon.schedule"].tolist() == ["None", "linear"] and pd.isna(runs["loss_nats"][1])


def test_a_verdict_is_written_once_and_what_was_written_by_hand_stays(root: Path) -> None:
    here = read("width", root)
    said = conclude(here, agreement=Agreement.HOLDS, seen="It stays.", findings=[FOUND])
    log = (here.folder / "LOG.md").read_text()
    assert log == said + "## Question\n\nDoes it?\n" and log.startswith("# Holds: It stays\n")
    assert "| slope | −0.123 [−0.2, −0.1] octaves a doubling | 12 |" in log
    assert here.verdict.findings[0].value == -0.1235 and here.verdict.agreement is Agreement.HOLDS
    conclude(here, agreement=Agreement.HOLDS, seen="It stays.", findings=[FOUND])
    assert (here.folder / "LOG.md").read_text() == log
    conclude(here, agreement=Agreement.DOES_NOT, seen="It moves.", findings=[FOUND])
    again = (here.folder / "LOG.md").read_text()
    assert again.startswith("# Does not hold: It stays\n") and again.endswith("\n## Question\n\nDoes it?\n")
    assert again == head(here, here.verdict) + "## Question\n\nDoes it?\n" and "It stays." not in again


def test_it_is_found_from_a_folder_below(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "analysis").mkdir()
    monkeypatch.chdir(root / "analysis")
    assert read("width").claim.arxiv == ("2203.03466",)
    assert [each.name for each in replications(root)] == ["width"]


def test_what_is_missing_or_damaged_is_named(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    here = read("width", root)
    with pytest.raises(Refused, match=r"run analysis/width\.ipynb"):
        _ = here.verdict
    with pytest.raises(Refused, match=r"nope\.csv does not exist"):
        here.frame("nope.csv")
    with pytest.raises(Refused, match=r"no replication 'depth'.*there are width"):
        read("depth", root)
    with pytest.raises(Refused, match="no folder sweeps"):
        read("width", tmp_path_factory.mktemp("empty"))
    with pytest.raises(Refused, match="needs findings"):
        conclude(here, agreement=Agreement.HOLDS, seen="It stays.")
    with pytest.raises(Refused, match="one line"):
        conclude(here, agreement=Agreement.NOT_RUN, seen="two\nlines")
    (here.folder / "verdict.json").write_text("{")
    with pytest.raises(Refused, match="damaged"):
        _ = here.verdict
    (here.folder / "verdict.json").write_text(json.dumps({"agreement": "maybe", "seen": "", "findings": []}))
    with pytest.raises(Refused, match="agreement"):
        _ = here.verdict
    (here.folder / "claim.toml").write_text('claim = "It stays"\n')
    with pytest.raises(Refused, match="paper"):
        read("width", root)
