"""Trackers get what a run tells, and cost it nothing when they cannot take it."""

import errno
import gc
import math
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scalelab import stopping
from scalelab.jobs import Job, run_job, run_jobs
from scalelab.readers import read
from scalelab.readers.wandb_runs import wandb_files, wandb_history, wandb_run, wandb_runs
from scalelab.spec import RunSpec, as_plain
from scalelab.trackers import TRACKERS, NoTracker, Tracker, aside, tracker, waited_for
from scalelab.trackers import wandb_run as wandb_tracker
from scalelab.trackers.described import name_of
from scalelab.trials import Outcome, RunFolder, Trial
from tests.conftest import ROOT, make_spec
from tests.helpers import TINY, metrics, one_line, scalelab, squeezed

SPEC = make_spec(width=32)
RECORD = {"step": 0, "tokens": 0, "loss_nats": 5.5, "lr": 0.01, "seconds": 0.1}
SWEPT = ("width=32,64", "lr=0.01,0.1,5", "optimizer=sgd", "optimizer.clip_norm=null", "parametrization=sp")


class Remembering(Tracker):
    """Keeps what it is told; `fails` is the call that raises, `raises` what."""

    def __init__(self, fails: str = "", raises: BaseException | None = None) -> None:
        self.fails, self.raises = fails, raises or OSError(errno.ENOSPC, "No space left on device")
        self.told: list[tuple[str, Any]] = []

    def _hear(self, call: str, what: Any) -> None:
        if call == self.fails:
            raise self.raises
        self.told.append((call, what))

    def start(self, name: str, spec: Mapping[str, Any], folder: Path) -> None:
        self._hear("start", name)

    def record(self, values: Mapping[str, Any]) -> None:
        self._hear("record", values)

    def finish(self, trial: Trial | None) -> None:
        self._hear("finish", trial)

    @property
    def steps(self) -> list[int]:
        return [what["step"] for call, what in self.told if call == "record"]


@pytest.fixture(autouse=True)
def _quiet_and_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_SILENT", "true")


# --- what a tracker is told -------------------------------------------------------------------------------------------


def test_a_tracker_is_told_the_whole_of_a_run_in_its_order(tmp_path: Path) -> None:
    told = Remembering()
    trial = run_job(SPEC, RunFolder(tmp_path), tracker=told)
    assert [call for call, _ in told.told] == ["start", *["record"] * SPEC.horizon.steps, "finish"]
    assert told.told[0][1] == SPEC.fingerprint and told.told[-1][1] == trial
    assert [values["loss_nats"] for call, values in told.told if call == "record"] == [
        at["loss_nats"] for at in metrics(tmp_path)
    ]


def test_a_run_that_is_gone_on_with_is_told_from_its_beginning_each_step_once(tmp_path: Path) -> None:
    for values in ({}, {"step": 1}, {"step": 2}, {"step": 2, "validation_loss_nats": 5.0}, {"step": 3}):
        # another process's, which was killed after step 3
        RunFolder(tmp_path).append({"attempt": 1, **RECORD, **values, "time": 1.0})
    told = Remembering()
    with waited_for([resumed := aside(told)]):
        resumed.start(SPEC.fingerprint, as_plain(SPEC), tmp_path)
        for step in (2, 3, 4):  # its checkpoint was of step 2
            resumed.record({**RECORD, "step": step})
    assert told.steps == [0, 1, 2, 2, 3, 4]
    assert told.told[1][1] == RECORD
    assert told.told[-1] == ("finish", None)


def test_a_stopped_run_is_left_to_be_gone_on_with(tmp_path: Path) -> None:
    told = Remembering()
    stopped: list[int] = []

    class Stopping(NoTracker):
        def record(self, values: Mapping[str, Any]) -> None:
            if values["step"] == 4 and not stopped:
                stopped.append(4)
                stopping.ask()

    jobs = [Job(spec=replace(SPEC, seed=seed), folder=RunFolder(tmp_path / str(seed)), tracker=each)
            for seed, each in enumerate((told, Stopping()))]  # fmt: skip
    with pytest.raises(stopping.Stopped):
        run_jobs(jobs)
    assert told.told[-1] == ("finish", None) and max(told.steps) < SPEC.horizon.steps - 1
    again = Remembering()
    (trial,) = run_jobs([replace(jobs[0], tracker=again)])
    assert again.steps == list(range(SPEC.horizon.steps)) and again.told[-1] == ("finish", trial)


# --- a tracker that is down -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raises", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError(""), SystemExit(1)])
@pytest.mark.parametrize("fails", ["start", "record", "finish"])
def test_whatever_a_tracker_dies_of_the_run_goes_on_and_says_so_once(
    fails: str, raises: BaseException, tmp_path: Path
) -> None:
    broken, whole = Remembering(fails, raises), Remembering()
    jobs = [Job(spec=replace(SPEC, seed=seed), folder=RunFolder(tmp_path / str(seed)), tracker=each)
            for seed, each in enumerate((broken, whole))]  # fmt: skip
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trials = run_jobs(jobs)
    assert [trial.outcome for trial in trials if trial] == [Outcome.OK, Outcome.OK]
    (warning,) = said
    assert "Remembering gets no copy of this run from here on" in str(warning.message)
    assert (str(raises) or type(raises).__name__) in str(warning.message)
    assert whole.steps == list(range(SPEC.horizon.steps)) and whole.told[-1] == ("finish", trials[1])


def test_a_tracker_that_does_not_answer_slows_no_step_and_is_waited_for_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scalelab.trackers.arms_length.LINGER_SECONDS", 0.5)
    released = threading.Event()

    class Hanging(Remembering):
        def start(self, name: str, spec: Mapping[str, Any], folder: Path) -> None:
            released.wait(60)

    run_job(replace(SPEC, seed=9), RunFolder(tmp_path / "warm"))
    began = time.perf_counter()
    jobs = [Job(spec=replace(SPEC, seed=seed), folder=RunFolder(tmp_path / str(seed)), tracker=Hanging())
            for seed in range(4)]  # fmt: skip
    with pytest.warns(UserWarning, match="it does not answer"):
        trials = run_jobs(jobs)
    seconds = time.perf_counter() - began
    released.set()
    assert all(trial is not None and trial.outcome is Outcome.OK for trial in trials)
    assert seconds < 5, "0.5 s for all of them together, and the runs"


def test_a_failed_run_is_told_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("scalelab.train.run", failing)
    told = Remembering()
    with pytest.raises(RuntimeError, match="out of memory"):
        run_job(SPEC, RunFolder(tmp_path), tracker=told)
    assert told.told[-1][1].outcome is Outcome.FAILED


# --- what is refused before it is launched ----------------------------------------------------------------------------


REFUSED = {
    "no such tracker": (["tracker.name=wandbb"], r"unknown tracker 'wandbb'.*did you mean 'wandb'"),
    "no such option": (["tracker=wandb", "+tracker.colour=red"], "unknown option 'colour' of .*: accepted are project"),
    "no such mode": (["tracker=wandb", "tracker.mode=onlin"], "unknown tracker.mode 'onlin'.*did you mean 'online'"),
    "no project": (["tracker=wandb", "tracker.project=null"], "tracker.project=None: accepted is a name"),
    "a project of two lines": (["tracker=wandb", 'tracker.project="a\nb"'], "tracker.project='a"),
    "tags that are a word": (["tracker=wandb", "tracker.tags=mine"], "tracker.tags='mine': accepted is a list"),
    "a number for a group": (["tracker=wandb", "tracker.group=3"], "tracker.group=3: accepted is a name"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "said"), REFUSED.values(), ids=REFUSED)
def test_a_tracker_that_cannot_be_is_refused(given: list[str], said: str, tmp_path: Path) -> None:
    import re

    assert re.search(said, one_line(scalelab("train", *TINY, *given)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["tracker.api_key", "tracker.secret", "tracker.token"])
def test_a_key_is_no_setting(option: str, tmp_path: Path) -> None:
    line = one_line(scalelab("train", *TINY, "tracker=wandb", f"+{option}=0123456789abcdef"))
    assert f"{option} looks like a secret" in line and "0123456789abcdef" not in line
    assert list(tmp_path.iterdir()) == []


def test_a_key_from_the_environment_is_no_setting_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "0123456789abcdef")
    line = one_line(scalelab("train", *TINY, "tracker=wandb", "+tracker.api_key=${oc.env:MY_KEY}"))
    assert "set WANDB_API_KEY in the environment" in line
    assert list(tmp_path.iterdir()) == []


def test_an_online_run_without_a_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NETRC", raising=False)
    asked = (*TINY, "tracker=wandb", "tracker.mode=online", "--dry-run")
    assert "`wandb login` once" in one_line(scalelab("train", *asked))
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    assert scalelab("train", *asked).exit_code == 0


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_a_tracker_that_is_not_installed_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert f"pip install 'scalelab[{name}]'" in one_line(scalelab("train", *TINY, f"tracker={name}"))
    assert list(tmp_path.iterdir()) == []


def test_every_tracker_has_its_configuration() -> None:
    assert {file.stem for file in (ROOT / "conf" / "tracker").glob("*.yaml")} == set(TRACKERS)


# --- Weights & Biases -------------------------------------------------------------------------------------------------


@pytest.fixture
def wandb() -> Iterator[Any]:
    found = pytest.importorskip("wandb")
    yield found
    found.teardown()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()  # of processes of W&B's that it has not waited for; later it would be some other test's error


def told(given: Any, spec: RunSpec, folder: Path, *, steps: int, trial: Trial | None) -> None:
    given.start(spec.fingerprint, as_plain(spec), folder)
    for step in range(steps):
        given.record({**RECORD, "step": step, "tokens": 64 * step, "loss_nats": 5.0 - step})
    given.finish(trial)


def ended(spec: RunSpec, loss_nats: float | None = 3.25, **given: Any) -> Trial:
    outcome = Outcome.DIVERGED if loss_nats is None else Outcome.OK
    return Trial(spec=spec, outcome=outcome, loss_nats=loss_nats, cost_flops=7, **given)


def test_a_wandb_run_has_its_columns_its_curve_and_its_result(wandb: Any, tmp_path: Path) -> None:
    options = {"project": "p", "group": "a/study", "job_type": "proxy", "tags": ["mine"]}
    told(tracker("wandb", **options), SPEC, tmp_path, steps=3, trial=ended(SPEC))
    wandb.teardown()
    (file,) = wandb_files(tmp_path)
    run = wandb_run(file)
    assert run["id"] == f"a-study-{SPEC.fingerprint}" and run["run"] == name_of(SPEC) and run["state"] == "finished"
    config, summary = run["config"], run["summary"]
    assert (config["width"], config["depth"], config["lr"], config["tokens"]) == (32, 2, 0.01, 640)
    assert config["parametrization"] == "mup" and config["scalelab"]["shape"]["width"] == 32
    assert (summary["loss_nats"], summary["outcome"], summary["cost_flops"]) == (3.25, "OK", 7)
    curve = list(wandb_history(file))[:3]
    assert [(at["_step"], at["train/tokens_so_far"], at["train/loss_nats"]) for at in curve] == [
        (0, 0, 5.0), (1, 64, 4.0), (2, 128, 3.0),
    ]  # fmt: skip
    text = file.read_bytes()
    assert b"a/study" in text and b"proxy" in text and b"mine" in text and b"adamw" in text


def test_wandb_keeps_runs_apart_that_are_trained_together(wandb: Any, tmp_path: Path) -> None:
    jobs = [
        Job(
            spec=replace(SPEC, seed=seed), folder=RunFolder(tmp_path / str(seed)), tracker=tracker("wandb", project="p")
        )
        for seed in range(4)
    ]
    trials = run_jobs(jobs)
    wandb.teardown()
    found = wandb_runs(tmp_path)
    assert dict(zip(found["config.fingerprint"], found["summary.loss_nats"], strict=True)) == {
        trial.spec.fingerprint: trial.loss_nats for trial in trials if trial
    }


def test_a_wandb_run_that_is_gone_on_with_is_one_run(wandb: Any, tmp_path: Path) -> None:
    told(tracker("wandb", project="p"), SPEC, tmp_path, steps=2, trial=None)
    time.sleep(1.1)  # W&B's folders are named by the second
    told(tracker("wandb", project="p"), SPEC, tmp_path, steps=4, trial=ended(SPEC))
    wandb.teardown()  # it ends its files after `finish`
    assert [wandb_run(file)["id"] for file in wandb_files(tmp_path)] == [SPEC.fingerprint] * 2
    assert wandb_runs(tmp_path)["summary.loss_nats"].tolist() == [3.25]
    assert read([tmp_path]).table["loss_nats"].tolist() == [3.25]


def test_a_run_whose_wandb_process_is_killed_goes_on_and_the_next_one_has_a_copy(wandb: Any, tmp_path: Path) -> None:
    first = aside(tracker("wandb", project="p"))
    gone = pytest.warns(UserWarning, match="WandbTracker gets no copy of this run from here on")
    with gone, waited_for([first]):
        first.start(SPEC.fingerprint, as_plain(SPEC), tmp_path / "first")
        first.record(RECORD)
        service = wandb_process(wandb)
        os.kill(service, signal.SIGKILL)
        for step in range(1, 50):
            first.record({**RECORD, "step": step})
            time.sleep(0.01)
    other = replace(SPEC, seed=1)
    with waited_for([second := aside(tracker("wandb", project="p"))]):
        told(second, other, tmp_path / "second", steps=2, trial=ended(other))
    wandb.teardown()
    assert wandb_runs(tmp_path / "second")["summary.loss_nats"].tolist() == [3.25]


def wandb_process(wandb: Any) -> int:
    """The id of W&B's own process, which is a child of this one."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for child in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
            for pid in child.read_text().split():
                if b"wandb-core" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    time.sleep(0.5)  # until the run is begun
                    return int(pid)
        time.sleep(0.05)
    raise AssertionError("W&B has no process")


def test_a_server_that_refuses_leaves_an_offline_copy(
    wandb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setattr(wandb_tracker, "WAIT_SECONDS", 1.5)
    began = time.monotonic()
    with pytest.warns(UserWarning, match=f"kept offline.*wandb sync --id {SPEC.fingerprint}"):
        trial = run_job(SPEC, RunFolder(tmp_path / "run"), tracker=tracker("wandb", project="p", mode="online"))
    assert time.monotonic() - began < 15
    wandb.teardown()
    copies = tmp_path / "copies"
    copies.mkdir()
    (tmp_path / "run" / "wandb").rename(copies / "wandb")
    assert trial is not None and read([copies]).table["loss_nats"].tolist() == [trial.loss_nats]
    everything = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"0123456789" * 4 not in everything


def test_runs_read_from_wandb_are_those_of_the_run_folders(wandb: Any, tmp_path: Path) -> None:
    assert scalelab("train", "-m", "tracker=wandb", "study=s", *TINY, *SWEPT).exit_code == 0
    wandb.teardown()
    ours, copies = read(["runs/s"]), tmp_path / "copies"
    for place, folder in enumerate((tmp_path / "runs").rglob("wandb")):
        copies.mkdir(exist_ok=True)
        folder.rename(copies / str(place))
    theirs = read([copies])
    tables = [
        runs.table.sort_values(["width", "lr"]).reset_index(drop=True).drop(columns="run") for runs in (ours, theirs)
    ]
    assert len(tables[0]) == 6 and set(tables[0]["outcome"]) == {"OK", "DIVERGED"}
    assert tables[0].equals(tables[1])
    assert theirs.template and ours.template and theirs.template.keys() == ours.template.keys()
    assert theirs.conventions == ours.conventions
    # As an export of the project: what is meant stands beside the whole spec, and is taken.
    wandb_runs(copies).to_csv(tmp_path / "export.csv")
    export = read([tmp_path / "export.csv"]).table.sort_values(["width", "lr"]).reset_index(drop=True)
    for name in ("width", "depth", "params_non_embedding", "tokens", "batch_tokens", "lr", "seed", "outcome"):
        assert export[name].tolist() == tables[0][name].tolist(), name
    assert [a for a in export["loss_nats"] if not math.isnan(a)] == [
        b for b in tables[0]["loss_nats"] if not math.isnan(b)
    ]


def test_laws_are_kept_as_an_artifact_of_the_group_of_their_runs(wandb: Any, tmp_path: Path) -> None:
    from tests.helpers import sweep, valley

    sweep(tmp_path / "runs" / "mine", valley())
    result = scalelab("fit", "runs/mine", "--no-plots", "-o", "laws", "--tracker", "wandb:team/p")
    assert result.exit_code == 0, result.output
    assert "kept in W&B: laws of" in squeezed(result.output)
    wandb.teardown()
    (file,) = wandb_files(tmp_path / "laws")
    run = wandb_run(file)
    assert b"team" in file.read_bytes() and run["config"]["command"] == "laws" and b"laws-mine" in file.read_bytes()
    given = ("--laws", "laws/laws.json", "-t", "width=256", "-o", "recipe.yaml", "--tracker", "wandb:p")
    assert "kept in W&B: recipe of 1 files" in squeezed(scalelab("recommend", *given).output)
    assert len(read([tmp_path / "runs" / "mine"]).table) == 42


@pytest.mark.parametrize(
    ("told", "said"), [("tensorboard", "accepted are wandb"), ("wandb:", "accepted"), ("wandb:a/b/c", "accepted")]
)
def test_artifacts_go_to_wandb_or_nowhere(told: str, said: str, tmp_path: Path) -> None:
    assert said in one_line(scalelab("fit", str(tmp_path), "--tracker", told))


# --- TensorBoard ------------------------------------------------------------------------------------------------------


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = folder.rglob("events.out.tfevents.*")
    found = EventAccumulator(str(file))
    found.Reload()
    return found


def test_tensorboard_has_both_axes_and_the_hyperparameters_with_the_result(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    for steps, trial in ((2, None), (4, ended(SPEC))):  # stopped, and gone on with
        told(tracker("tensorboard"), SPEC, tmp_path, steps=steps, trial=trial)
    found = events(tmp_path)
    assert [(at.step, at.value) for at in found.Scalars("over_steps/train/loss_nats")] == [
        (0, 5.0), (1, 4.0), (2, 3.0), (3, 2.0),
    ]  # fmt: skip
    assert [at.step for at in found.Scalars("over_tokens/train/loss_nats")] == [0, 64, 128, 192]
    assert found.Scalars("final/loss_nats")[0].value == 3.25
    assert "_hparams_/session_start_info" in found.SummaryMetadata.__self__.summary_metadata


def test_a_run_with_tensorboard_changes_no_result(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    for asked in (("tracker=tensorboard", "out=tracked"), ()):
        assert scalelab("train", *TINY, *asked).exit_code == 0
    losses = [RunFolder(file.parent).read().loss_nats for file in tmp_path.rglob("trial.json")]
    assert len(losses) == 2 and losses[0] == losses[1]
    (file,) = (tmp_path / "tracked").rglob("events.out.tfevents.*")
    assert file.parent.name == "mup-adamw-w32-d2-lr=0.03125-tokens=640-seed=0"
