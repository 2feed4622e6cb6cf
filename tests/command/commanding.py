"""Runs by commands: a tiny trainer, specs that it trains, and the keys that state it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scalelab.data.external import external
from scalelab.external import Command, command_of
from scalelab.spec import RunSpec
from tests.conftest import make_spec

# It says its losses as JSON lines and as text, ends as it is told, and goes on from {checkpoint}/step.
TRAINER = """
import json, os, pathlib, signal, sys, time

how, folder, checkpoint, lr = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), float(sys.argv[4])
mark = checkpoint / "step"
start = int(mark.read_text()) if mark.exists() else 0
if how == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if how == "saving":
    def save(*_):
        mark.write_text(str(step))
        sys.exit(0)
    signal.signal(signal.SIGTERM, save)


def say(**values):
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps(values) + "\\n")
    print(" ".join(f"{name}={value}" for name, value in values.items()), flush=True)


print("attempt", os.environ["SCALELAB_ATTEMPT"], "threads", os.environ["OMP_NUM_THREADS"], flush=True)
steps = 10
for step in range(start, steps):
    say(step=step, loss=5 - 0.1 * step + lr)
    if how == "nan" and step == 4:
        say(step=step, loss=float("nan"))
        time.sleep(60)
    if how == "crash" and step == 3:
        raise MemoryError("no memory for this")
    if how == "validating":
        say(step=step + 1, validation_loss=4 - 0.1 * step)
        time.sleep(0.15)
    if how in ("slow", "stubborn", "saving") and start == 0 and step >= 3:
        time.sleep(0.1 if step < 4 else 60)
if how == "silent":
    (folder / "log.jsonl").unlink()
elif how != "unvalidated":
    say(step=7 if how == "early" else steps, validation_loss=3.0 + lr)
if how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if how.startswith("exit"):
    sys.exit(int(how.removeprefix("exit")))
"""


def keys(folder: Path, how: str = "ok", **given: Any) -> dict[str, Any]:
    """The group `trainer` of a configuration that runs the tiny trainer."""
    script = folder / "trainer.py"
    if not script.exists():
        folder.mkdir(parents=True, exist_ok=True)
        script.write_text(TRAINER)
    argv = ["{python}", str(script), how, "{folder}", "{checkpoint}", "{lr}"]
    return {"name": "command", "argv": argv, "grace_seconds": 1.0, **given}


def commanded(folder: Path, how: str = "ok", **given: Any) -> RunSpec:
    """A spec of ten steps that the tiny trainer in `folder` trains."""
    return spec_of(command_of(keys(folder, how, **given)))


def spec_of(command: Command | None, parametrization: str = "mup", **given: Any) -> RunSpec:
    """A spec with this command; the arguments are those of `make_spec`."""
    assert command is not None
    data = external("external", (("bytes_per_token", 4.0), ("dataset", "tiny@1"), ("vocab", 256)), command)
    return make_spec(parametrization, data=data, command=command, **given)


def stating(**given: Any) -> RunSpec:
    """A spec whose command is never run, stated by the keys of the group `trainer`."""
    return spec_of(command_of({"name": "command", "argv": ["train"], **given}))


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.01)
