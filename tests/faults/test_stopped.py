"""Asked to stop, by a scheduler or by hand: all is saved at once, a line says so, and nothing is lost."""

import os
import time
from pathlib import Path

import pytest

from scalelab.jobs import run_job
from scalelab.trials import RunFolder
from tests.faults.helpers import LAUNCHERS, launched, python, steps_of_attempts, trials, under_way
from tests.helpers import TINY, wait_for

ARGUMENTS = ("tokens=12800", "seed=0,1,2")
GRACE_SECONDS = 30.0  # SLURM's KillWait, a spot instance's warning


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_that_gets_a_sigterm(launcher: str, tmp_path: Path) -> None:
    process, study = launched(tmp_path, *ARGUMENTS, launcher=launcher), tmp_path / "runs" / "adhoc"
    wait_for(lambda: process.poll() is not None or bool(under_way(study)))
    began = time.monotonic()
    process.terminate()
    _, said = process.communicate(timeout=GRACE_SECONDS)
    assert time.monotonic() - began < GRACE_SECONDS
    assert process.returncode == 143, said
    last = said.splitlines()[-1]
    assert last.startswith("scalelab: asked to stop; what was in training is saved") and "Traceback" not in said
    saved = under_way(study)
    assert saved and all((run / "checkpoint.pt").exists() for run in saved)
    again = launched(tmp_path, *ARGUMENTS, launcher=launcher)
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    found = trials(study)
    assert len(found) == 3
    for run in saved:
        first, second = (steps_of_attempts(run)[attempt] for attempt in (1, 2))
        # About every second step is on the curve of 200: it went on where it was, not where it was last saved.
        assert 0 < first[-1] < second[0] <= first[-1] + 2
        whole = run_job(found[run.name].spec, RunFolder(tmp_path / "alone" / run.name))
        assert whole is not None and found[run.name].loss_nats == whole.loss_nats


WORKER = """
import signal, sys
from pathlib import Path
from scalelab.jobs import run_job
from scalelab.trials import RunFolder
from tests.conftest import make_spec

run_job(make_spec(width=32, tokens=64 * 4_000), RunFolder(Path(sys.argv[1])))
"""


def test_a_worker_that_gets_a_sigterm_saves_at_the_step_it_is_at(tmp_path: Path) -> None:
    process = python(WORKER, tmp_path)
    curve = tmp_path / "metrics.jsonl"
    wait_for(lambda: process.poll() is not None or (curve.exists() and curve.stat().st_size > 400))
    process.terminate()
    output, said = process.communicate(timeout=GRACE_SECONDS)
    assert process.returncode == 143 and (output, said) == ("", ""), said
    assert sorted(os.listdir(tmp_path)) == [".claim.1", "checkpoint.pt", "metrics.jsonl", "spec.json"]
    assert (tmp_path / ".claim.1").stat().st_mtime == 0.0  # released: whoever comes next need not wait


# Ctrl-C in the middle of what Hydra writes as YAML, by each launcher.
INTERRUPTED = """
import os, signal, sys
from omegaconf import OmegaConf

signal.signal(signal.SIGINT, signal.default_int_handler)
to_yaml, calls = OmegaConf.to_yaml, []

def interrupted(*given, **more):
    calls.append(1)
    if sys._getframe(1).f_code.co_name in ("_save_config", "_dumped"):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise ValueError("what libyaml makes of it")
    return to_yaml(*given, **more)

OmegaConf.to_yaml = staticmethod(interrupted)
from scalelab.cli import app
app(sys.argv[1:])
"""


@pytest.mark.parametrize("launcher", ["basic", pytest.param("fused", marks=pytest.mark.slow)])
def test_ctrl_c_while_yaml_is_written_is_ctrl_c(launcher: str, tmp_path: Path) -> None:
    given = ["train", "-m", *TINY, "seed=0,1", f"out={tmp_path}", *LAUNCHERS[launcher]]
    process = python(INTERRUPTED, *given)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert said.splitlines()[-1].startswith("scalelab: interrupted") and "Traceback" not in said
