"""How sweeps stand: run folders in every state, read without touching them, fast, and by a live worker's side."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from scalelab import show_status
from scalelab.claims import Holder, claim
from scalelab.errors import Refused
from scalelab.jobs import CLAIM
from scalelab.machine import Peak
from scalelab.machine import peak as measured
from scalelab.models import count_flops_per_token
from scalelab.spec import RunSpec, as_plain
from scalelab.status import Look, Machine, State, StudyStatus, known_peaks, look
from scalelab.status.run import QUIET_SECONDS
from scalelab.trials import Outcome, RunFolder, Trial
from tests.conftest import ROOT, make_spec
from tests.helpers import one_line, scalelab, squeezed, tree

NOW, HOUR = 1_700_000_000.0, 3600.0
HERE = {"host": "node1", "device": "cpu", "threads": "1", "torch": "2.13.0+cpu"}
MACHINE = Machine(host="node1", device="cpu", threads=1, torch="2.13.0+cpu")
HORIZON = 640  # tokens of `make_spec`
PER_TOKEN = count_flops_per_token(make_spec(width=32)).six_n_attention


def spec_at(seed: int) -> RunSpec:
    return make_spec(width=32, seed=seed)


def ended(study: Path, outcome: Outcome = Outcome.OK, *, seed: int = 0, tokens: int = HORIZON, **given: Any) -> Path:
    spec = spec_at(seed)
    folder = RunFolder(study / spec.fingerprint)
    trial = Trial(
        spec=spec, outcome=outcome, loss_nats=3.0 if outcome is Outcome.OK else None, tokens_seen=tokens,
        cost_flops=tokens * PER_TOKEN, **{"seconds": 2.0, "provenance": HERE, **given},
    )  # fmt: skip
    folder.write(trial)
    return folder.path


def begun(
    study: Path,
    records: Sequence[Mapping[str, Any]],
    *,
    seed: int = 0,
    age: float = 1.0,
    spec: bool = True,
    torn: str = "",
) -> Path:
    """A run that has written these records, the last of them `age` seconds before NOW."""
    asked = spec_at(seed)
    folder = study / asked.fingerprint
    folder.mkdir(parents=True)
    if spec:
        (folder / "spec.json").write_text(json.dumps(as_plain(asked)))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records) + torn)
    for file in folder.iterdir():
        os.utime(file, (NOW - age, NOW - age))
    return folder


def record(tokens: int, seconds: float, *, attempt: int = 1, **more: float) -> dict[str, Any]:
    return {"attempt": attempt, "step": tokens // 64, "tokens": tokens, "loss_nats": 3.0, "seconds": seconds, **more}


def curve(tokens: int, *, every: int = 64, seconds_a_record: float = 1.0) -> list[dict[str, Any]]:
    return [record(at, at / every * seconds_a_record) for at in range(0, tokens + 1, every)]


def only(folder: Path, **given: Any) -> StudyStatus:
    (study,) = look([folder], **{"now": NOW, **given})
    return study


def test_every_state_is_counted(tmp_path: Path) -> None:
    ended(tmp_path, seed=0)
    ended(tmp_path, Outcome.DIVERGED, seed=1, tokens=128)
    ended(tmp_path, Outcome.PRUNED, seed=2, tokens=320)
    ended(tmp_path, Outcome.FAILED, seed=3, tokens=0)
    begun(tmp_path, curve(192), seed=4)
    begun(tmp_path, curve(256), seed=5, age=10 * QUIET_SECONDS)
    waits(tmp_path, seed=6)
    broken = ended(tmp_path, seed=7)
    (broken / "trial.json").write_text('{"version": 1, "outc')
    study = only(tmp_path)
    assert study.counts == dict.fromkeys(State, 1) and study.runs == 8
    assert study.tokens == 640 + 128 + 320 + 0 + 192 + 256 + 0
    # what diverged or was pruned is not trained further; of what cannot be read nothing is known
    assert study.tokens_total == 640 + 128 + 320 + 640 + 640 + 640 + 640 and study.horizons_unknown == 1
    assert study.flops == study.tokens * PER_TOKEN
    assert study.seconds == 2.0 * 4 + 3.0 + 4.0
    # OK, DIVERGED, PRUNED and RUNNING: a failure's FLOPs are not known to the last
    assert study.flops_per_second == pytest.approx((640 + 128 + 320 + 192) * PER_TOKEN / (6.0 + 3.0))


def test_a_study_is_a_folder_of_runs_and_several_are_read_at_once(tmp_path: Path) -> None:
    ended(tmp_path / "one", seed=0)
    ended(tmp_path / "one", seed=1)
    ended(tmp_path / "deep" / "two", seed=2)
    (tmp_path / "one" / ".hydra").mkdir()
    (tmp_path / "one" / "notes").mkdir()
    assert [(study.folder, study.runs) for study in look([tmp_path])] == [
        (tmp_path / "deep" / "two", 1), (tmp_path / "one", 2),
    ]  # fmt: skip
    run = next((tmp_path / "one").iterdir())
    ours = [folder for folder in (tmp_path / "one").iterdir() if (folder / "trial.json").exists()]
    (study,) = look([ours[0], ours[0]])
    assert run.parent == tmp_path / "one" and (study.folder, study.runs) == (ours[0], 1)


def test_looking_changes_nothing(tmp_path: Path) -> None:
    ended(tmp_path)
    begun(tmp_path, curve(192), seed=1)
    before = tree(tmp_path)
    look([tmp_path])
    assert tree(tmp_path) == before


def waits(study: Path, *, seed: int) -> None:
    """A run that has a spec and nothing else."""
    folder = begun(study, [], seed=seed)
    (folder / "metrics.jsonl").unlink()


def test_the_time_left_is_that_of_all_that_is_left_by_the_workers_at_work(tmp_path: Path) -> None:
    begun(tmp_path, curve(320), seed=0)  # 64 tokens a second, 320 left: 5 s by itself
    begun(tmp_path, curve(320, seconds_a_record=0.5), seed=1)  # 128 a second: 2.5 s
    assert only(tmp_path).eta_seconds == pytest.approx(5.0)  # the slower one ends last
    mean = 2 * 320 / (5.0 + 2.5)  # tokens a second, of what has been trained
    for seed in (2, 3):
        waits(tmp_path, seed=seed)
    assert only(tmp_path).eta_seconds == pytest.approx((5.0 + 2.5 + 2 * 640 / mean) / 2)
    begun(tmp_path, curve(0), seed=4)  # has just begun: a third worker
    assert only(tmp_path).eta_seconds == pytest.approx((5.0 + 2.5 + 3 * 640 / mean) / 3)
    begun(tmp_path, curve(64), seed=5, spec=False)  # of unknown length
    found = only(tmp_path)
    assert found.eta_seconds is None and found.horizons_unknown == 1


def test_a_run_that_waits_will_go_as_those_of_its_size_did(tmp_path: Path) -> None:
    wide = make_spec(width=64)
    per_token = count_flops_per_token(wide).six_n_attention
    RunFolder(tmp_path / "wide").write(
        Trial(spec=wide, outcome=Outcome.OK, loss_nats=3.0, tokens_seen=640, cost_flops=640 * per_token, seconds=6.4)
    )
    ended(tmp_path, seed=0, seconds=64.0)
    begun(tmp_path, curve(0), seed=1)
    for name, spec in (("wide too", replace(wide, seed=1)), ("wider", make_spec(width=96))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "spec.json").write_text(json.dumps(as_plain(spec)))
    wider = count_flops_per_token(make_spec(width=96)).six_n_attention  # by the FLOP/s of the nearest size
    assert only(tmp_path).eta_seconds == pytest.approx(64.0 + 6.4 + 6.4 * wider / per_token)


def test_where_nothing_runs_nothing_is_left(tmp_path: Path) -> None:
    begun(tmp_path, curve(320), seed=0, age=10 * QUIET_SECONDS)
    ended(tmp_path, seed=1)
    assert only(tmp_path).eta_seconds is None and not only(tmp_path).under_way


def test_the_pace_is_the_recent_one_by_the_clock(tmp_path: Path) -> None:
    # Slow at first; each of two runs in one worker takes half of its seconds, and all of the clock's.
    early = [record(at, 100.0 * at, time=NOW - 1e6 + 200.0 * at) for at in range(64)]
    late = [record(64 + at, 6400.0 + 0.5 * at, time=NOW - 500 + at) for at in range(500)]
    for seed in (0, 1):
        folder = begun(tmp_path, [*early, *late], seed=seed)
        assert (folder / "metrics.jsonl").stat().st_size > 10 * 4096
    # Both end in 640 − 563 seconds: together they are one worker.
    assert only(tmp_path).eta_seconds == pytest.approx(640 - 563)


def test_the_last_attempt_counts_and_torn_lines_do_not(tmp_path: Path) -> None:
    again = [record(0, 0.0, attempt=2), record(64, 4.0, attempt=2)]
    begun(tmp_path, [*curve(512), *again], torn='{"attempt": 2, "step": 2, "tok')
    study = only(tmp_path)
    assert (study.tokens, study.seconds, study.eta_seconds) == (64, 4.0, pytest.approx(576 / 16))


@pytest.mark.parametrize(
    ("age", "seconds_a_record", "state"),
    [
        (QUIET_SECONDS - 1, 1.0, State.RUNNING),
        (QUIET_SECONDS + 1, 1.0, State.STOPPED),
        (QUIET_SECONDS + 1, 60.0, State.RUNNING),  # a large run writes seldom
        (601.0, 60.0, State.STOPPED),
    ],
)
def test_a_run_without_a_claim_is_judged_by_its_own_pace(
    age: float, seconds_a_record: float, state: State, tmp_path: Path
) -> None:
    begun(tmp_path, curve(320, seconds_a_record=seconds_a_record), age=age)
    assert only(tmp_path).counts == {state: 1}


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.PRUNED])
def test_a_run_that_goes_on_after_its_trial_is_running(outcome: Outcome, tmp_path: Path) -> None:
    folder = begun(tmp_path, curve(320), seed=0)
    ended(tmp_path, outcome, seed=0, tokens=128)
    os.utime(folder / "trial.json", (NOW - 1, NOW - 1))  # written after the last record: it has ended
    assert only(tmp_path).counts == {State(outcome): 1}
    os.utime(folder / "trial.json", (NOW - 60, NOW - 60))
    study = only(tmp_path)
    assert study.counts == {State.RUNNING: 1} and study.tokens == 320 and study.eta_seconds == pytest.approx(5.0)
    for name in ("metrics.jsonl", "spec.json"):  # and has been killed since
        os.utime(folder / name, (NOW - 1e6, NOW - 1e6))
    os.utime(folder / "trial.json", (NOW - 1e6 - 60, NOW - 1e6 - 60))
    assert only(tmp_path).counts == {State(outcome): 1}


def test_a_held_claim_says_that_a_silent_run_is_alive(tmp_path: Path) -> None:
    folder = begun(tmp_path, curve(320), age=100 * QUIET_SECONDS)
    assert only(tmp_path).counts == {State.STOPPED: 1}
    mine = claim(folder / CLAIM)
    assert mine is not None and only(tmp_path, now=NOW + 1e9).counts == {State.RUNNING: 1}
    mine.release()
    assert only(tmp_path).counts == {State.STOPPED: 1}


@pytest.mark.parametrize(("age", "state"), [(50.0, State.RUNNING), (130.0, State.STOPPED), (-HOUR, State.RUNNING)])
def test_a_claim_of_another_node_is_alive_as_long_as_it_is_touched(age: float, state: State, tmp_path: Path) -> None:
    folder = begun(tmp_path, curve(320), age=1.0)  # whatever its files say
    for number, touched in ((1, NOW - 1), (2, NOW - age)):  # the newest counts
        who = Holder(host="node7", boot="b", pid=1, started="1", token="t", lease_seconds=120.0)
        (folder / f"{CLAIM}.{number}").write_text(json.dumps(asdict(who)))
        os.utime(folder / f"{CLAIM}.{number}", (touched, touched))
    (folder / ".claim.9.nfs00ab").touch()  # of no account
    assert only(tmp_path).counts == {state: 1}
    os.utime(folder / f"{CLAIM}.2", (0, 0))  # released
    assert only(tmp_path).counts == {State.STOPPED: 1}


def test_a_claim_alone_makes_a_folder_a_runs_and_a_lock_of_an_earlier_version_does_not(tmp_path: Path) -> None:
    for name, file in (("one", ".claim.1"), ("two", ".lock"), ("three", ".nfs0000000000000001")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    assert [path.folder.name for path in look([tmp_path])] == [tmp_path.name]
    assert look([tmp_path])[0].counts == {State.RUNNING: 1}  # just claimed, nothing written yet


WORKER = """
import json, sys
from pathlib import Path
from scalelab.jobs import run_job
from scalelab.spec import as_plain
from scalelab.trials import RunFolder
from tests.conftest import make_spec

spec, folder = make_spec(width=32, tokens=64 * 4_000), RunFolder(Path(sys.argv[1]))
folder.path.mkdir(parents=True)
(folder.path / "spec.json").write_text(json.dumps(as_plain(spec)))
run_job(spec, folder)
"""


def test_a_worker_is_seen_at_its_work_and_left_alone(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path / "run")], cwd=ROOT)
    try:
        curve_file, until = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 60
        while not (curve_file.exists() and curve_file.stat().st_size > 400):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        study = only(tmp_path, now=time.time() + 1e6)  # long after: it's the claim that says so
        assert study.counts == {State.RUNNING: 1} and study.tokens_total == 64 * 4_000
        assert study.eta_seconds is not None and 0 < study.eta_seconds < 3600
        assert study.flops_per_second is not None and 1e7 < study.flops_per_second < 1e13
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert only(tmp_path, now=time.time() + 1e6).counts == {State.STOPPED: 1}


def test_an_older_trial_and_one_of_a_later_scalelab_are_read(tmp_path: Path) -> None:
    folder = ended(tmp_path, energy_joules=7.0)
    plain = json.loads((folder / "trial.json").read_text())
    for change in ({"energy_joules": None}, {"a later field": 1}):
        (folder / "trial.json").write_text(json.dumps(plain | change))
        assert RunFolder(folder).read().outcome is Outcome.OK and only(tmp_path).counts == {State.OK: 1}
    for name in ("energy_joules", "provenance", "reason", "seconds"):
        del plain[name]
    (folder / "trial.json").write_text(json.dumps(plain))
    trial = RunFolder(folder).read()
    assert (trial.energy_joules, trial.seconds, trial.flops_per_second) == (None, 0.0, None)
    assert only(tmp_path).counts == {State.OK: 1}
    del plain["outcome"]
    (folder / "trial.json").write_text(json.dumps(plain))
    with pytest.raises(Refused, match="lacks outcome: remove that folder"):
        RunFolder(folder).read()
    assert only(tmp_path).counts == {State.UNREADABLE: 1}


def test_a_pruned_trial_is_not_final_and_says_what_it_achieved(tmp_path: Path) -> None:
    folder = RunFolder(ended(tmp_path, Outcome.PRUNED, tokens=320))
    trial = folder.read()
    assert folder.final(trial.spec) is None and trial.outcome is Outcome.PRUNED
    assert trial.flops_per_second == 320 * PER_TOKEN / 2.0
    with pytest.raises(ValueError, match="OK if and only if its loss is finite"):
        replace(trial, loss_nats=3.0)


def test_energy_is_that_of_the_runs_that_know_it(tmp_path: Path) -> None:
    ended(tmp_path, seed=0)
    assert only(tmp_path).energy_joules is None
    ended(tmp_path, seed=1, energy_joules=30.0)
    ended(tmp_path, seed=2, energy_joules=12.0)
    assert (only(tmp_path).energy_joules, only(tmp_path).energy_runs) == (42.0, 2)


def test_the_share_of_the_peak_is_by_the_time_on_each_machine(tmp_path: Path) -> None:
    ended(tmp_path, seed=0, seconds=1.0)
    ended(tmp_path, seed=1, seconds=3.0, provenance=HERE | {"host": "node2"})
    ended(tmp_path, seed=2, seconds=9.0, provenance=HERE | {"host": "node3"})  # of which no peak is known
    study, rate = only(tmp_path), HORIZON * PER_TOKEN
    peak = Peak(flops_per_second=2 * rate, side=1, host="", device="cpu", name="", dtype="", threads=1, torch="")
    assert study.peak_share({}) is None
    assert study.peak_share({MACHINE: peak}) == 0.5
    both = {MACHINE: peak, replace(MACHINE, host="node2"): replace(peak, flops_per_second=rate)}
    assert study.peak_share(both) == pytest.approx(2 * rate / (1.0 * 2 * rate + 3.0 * rate))


def test_a_final_run_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        ended(tmp_path, seed=seed)
    running = begun(tmp_path, curve(64), seed=3)
    seen, scanned, scandir = Look([tmp_path]), [], os.scandir
    seen.studies(now=NOW)
    monkeypatch.setattr(os, "scandir", lambda path: scanned.append(path) or scandir(path))  # type: ignore[func-returns-value]
    assert seen.studies(now=NOW)[0].counts == {State.OK: 3, State.RUNNING: 1}
    assert scanned == [str(tmp_path), str(running)]


def test_thousands_of_runs_take_seconds(tmp_path: Path) -> None:
    text = (ended(tmp_path / "model") / "trial.json").read_text()
    for index in range(2_000):
        folder = tmp_path / "study" / f"{index:05}"
        folder.mkdir(parents=True)
        (folder / "trial.json").write_text(text)
        (folder / "metrics.jsonl").write_text("{}\n")
        (folder / ".lock").touch()  # as earlier versions left them
    started = time.process_time()
    (study,) = look([tmp_path / "study"])
    assert study.runs == 2_000
    assert time.process_time() - started < 2.0  # 0.2 on an idle core: 10,000 in a few seconds


@pytest.mark.parametrize("empty", [True, False])
def test_folders_without_runs_are_refused(empty: bool, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    if empty:
        (folder / "notes").mkdir(parents=True)
    said = one_line(scalelab("status", str(folder)))
    assert ("no runs in" if empty else "no folder") in said and str(folder) in said


def test_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(tmp_path / "lr_width", seed=0, energy_joules=1234.5)
    ended(tmp_path / "lr_width", Outcome.DIVERGED, seed=1, tokens=128)
    ended(tmp_path / "older", seed=2)
    begun(tmp_path / "older", curve(64), seed=3, spec=False)
    monkeypatch.setattr("time.time", lambda: NOW)
    monkeypatch.chdir(tmp_path)
    result = scalelab("status", ".")
    assert result.exit_code == 0, result.output
    head, first, second, *notes = (squeezed(line) for line in result.stdout.splitlines() if line.strip())
    assert head == "study done diverged running tokens FLOPs worker-s FLOP/s a worker energy"
    flops, rate = f"{768 * PER_TOKEN:.2e}", show_status.prefixed(768 * PER_TOKEN / 4)
    assert first == f"lr_width 2 of 2 1 — 768 of 768 {flops} 4 {rate} 1.23 kJ"
    assert second.startswith("older 1 of 2 — 1 704 of ≥ 704 ")
    assert "no file says how long" in squeezed(" ".join(notes))


def test_json(tmp_path: Path) -> None:
    ended(tmp_path, energy_joules=30.0)
    (study,) = json.loads(scalelab("status", str(tmp_path), "--json").stdout)["studies"]
    assert study == {
        "folder": str(tmp_path), "runs": 1, "states": dict.fromkeys(State, 0) | {"OK": 1}, "tokens": 640,
        "tokens_total": 640, "horizons_unknown": 0, "flops": 640 * PER_TOKEN, "seconds": 2.0,
        "flops_per_second": 320 * PER_TOKEN, "peak_share": None, "energy_joules": 30.0, "energy_runs": 1,
        "eta_seconds": None,
    }  # fmt: skip


def test_a_peak_is_shown_where_it_is_known_and_measured_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import platform

    import torch

    monkeypatch.setenv("SCALELAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(measured, "BUDGET_SECONDS", 0.05)
    here = {"host": platform.node(), "device": "cpu", "threads": "1", "torch": torch.__version__}
    ended(tmp_path / "there", seconds=1e-3)
    assert "measure there" in one_line(scalelab("status", str(tmp_path / "there"), "--measure-peak"))
    ended(tmp_path / "here", seconds=1e-3, provenance=here)
    assert "of peak" not in scalelab("status", str(tmp_path / "here")).stdout
    assert known_peaks(look([tmp_path / "here"])) == {}
    assert "of peak" in scalelab("status", str(tmp_path / "here"), "--measure-peak").stdout
    (study,) = json.loads(scalelab("status", str(tmp_path / "here"), "--json").stdout)["studies"]
    (peak,) = known_peaks(look([tmp_path / "here"])).values()
    assert study["peak_share"] == pytest.approx(640 * PER_TOKEN / 1e-3 / peak.flops_per_second)


@pytest.mark.parametrize("terminal", [True, False])
def test_watching_ends_with_the_last_run(terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running, pauses = begun(tmp_path, curve(64)), []
    monkeypatch.setattr("time.time", lambda: NOW)

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            ended(tmp_path)

    output = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    show_status.status([tmp_path], output, every=7.0, sleep=sleep)
    assert pauses == [7.0] * 3 and (running / "trial.json").exists()
    text = output.file.getvalue()  # type: ignore[attr-defined]
    assert "0 of 1" in text and "1 of 1" in text
    assert ("\x1b[" in text) is terminal  # a terminal's table replaces itself


def test_watching_is_stopped_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(tmp_path, curve(64))
    monkeypatch.setattr("time.time", lambda: NOW)

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    show_status.status([tmp_path], Console(file=io.StringIO()), every=1.0, sleep=interrupted)
