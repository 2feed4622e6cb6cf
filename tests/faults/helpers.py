"""Launchers and workers as processes of their own, to be killed, stopped, and starved of disk."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scalelab.trials import RunFolder, Trial
from tests.conftest import ROOT
from tests.helpers import TINY

LAUNCHERS = {"basic": [], "fused": ["hydra/launcher=fused", "hydra.launcher.workers=2", "hydra.launcher.members=1"]}


def python(code: str, *arguments: object, **given: Any) -> "subprocess.Popen[str]":
    """A process that runs this code."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, **given,
    )  # fmt: skip


def launched(folder: Path, *arguments: str, launcher: str = "basic") -> "subprocess.Popen[str]":
    """`scalelab train -m` in a folder, of tiny runs."""
    return subprocess.Popen(
        [sys.executable, "-m", "scalelab.cli", "train", "-m", *TINY, *arguments, *LAUNCHERS[launcher]],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def under_way(study: Path) -> list[Path]:
    """The folders of runs that have trained some steps and have not ended."""
    curves = [curve for curve in study.glob("*/metrics.jsonl") if curve.stat().st_size > 400]
    return [curve.parent for curve in curves if not (curve.parent / "trial.json").exists()]


def trials(study: Path) -> dict[str, Trial]:
    return {file.parent.name: RunFolder(file.parent).read() for file in study.glob("*/trial.json")}


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A mount on a folder; the test is skipped where that is not permitted."""
    folder.mkdir(parents=True, exist_ok=True)
    ran = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
    if ran.returncode:
        pytest.skip(f"mount is not permitted here: {ran.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A disk of its own size under a folder."""
    with mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        yield


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder that nobody can write to, root neither."""
    with mounted(folder, "--bind", str(folder)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield


def steps_of_attempts(run: Path) -> dict[int, list[int]]:
    """The steps on a run's curve by attempt, as they were written."""
    found: dict[int, list[int]] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        found.setdefault(record["attempt"], []).append(record["step"])
    return found
