"""Records of other versions: earlier ones are read, what a later one adds is left alone, a later version is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from scalelab.collection import collect, trials
from scalelab.errors import Refused
from scalelab.jobs import run_job
from scalelab.readers.folders import folder_runs
from scalelab.status import State, look
from scalelab.trials import TRIAL_VERSION, Outcome, RunFolder
from tests.helpers import one_line, scalelab, tree

EARLIER = Path(__file__).parent / "earlier"  # as the version before populations wrote it


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A finished run of an earlier version, with the lock file that it left and no spec.json."""
    folder = tmp_path / "study" / "cf5285fae990"
    shutil.copytree(EARLIER, folder)
    (folder / ".lock").touch()
    return RunFolder(folder)


def rewritten(run: RunFolder, **changes: Any) -> None:
    plain = json.loads((run.path / "trial.json").read_text())
    (run.path / "trial.json").write_text(json.dumps(plain | changes))


def test_an_earlier_record_is_a_finished_run_of_todays(run: RunFolder) -> None:
    assert not {"trunk_tokens", "energy_joules"} & set(json.loads((run.path / "trial.json").read_text()))
    trial = run.read()
    assert trial.outcome is Outcome.OK and (trial.trunk_tokens, trial.energy_joules) == (0, None)
    assert trial.spec.fingerprint == "cf5285fae990"  # by which it is found when launched again
    before = tree(run.path)
    assert run_job(trial.spec, run) == trial and tree(run.path) == before
    (study,) = look([run.path.parent])
    assert study.counts == {State.OK: 1} and study.tokens == 640
    table, _ = folder_runs(run.path.parent)
    assert table["loss_nats"].tolist() == [trial.loss_nats]
    assert run.metrics()[-1]["step"] == 9
    collect(run.path.parent)
    assert dict(trials(run.path.parent)) == {run.path.name: trial}


def test_what_a_later_scalelab_adds_without_another_version_is_left_alone(run: RunFolder) -> None:
    before = run.read()
    rewritten(run, carbon_grams=1.5)
    assert run.read() == before


def test_a_later_version_is_refused_and_says_which(run: RunFolder) -> None:
    rewritten(run, version=TRIAL_VERSION + 1)
    with pytest.raises(Refused, match=r"is a trial of version 2, of a later scalelab: this one reads version 1"):
        run.read()
    for command in ("fit", "collect"):
        result = scalelab(command, str(run.path.parent))
        assert (
            ("version 2" in one_line(result)) if command == "fit" else "1 unreadable" in " ".join(result.stdout.split())
        )
    assert look([run.path.parent])[0].counts == {State.UNREADABLE: 1}


@pytest.mark.parametrize("version", [None, 0, "1"])
def test_no_version_is_refused(run: RunFolder, version: Any) -> None:
    rewritten(run, version=version)
    with pytest.raises(Refused, match="is not a trial of version 1"):
        run.read()
