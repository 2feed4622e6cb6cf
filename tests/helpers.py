"""What several test files share: the command line in-process, tiny runs, and run folders with made-up losses."""

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from scalelab.cli import app
from scalelab.spec import RunSpec
from scalelab.trials import Outcome, RunFolder, Trial
from tests.conftest import make_spec

# A run of ten steps that takes a fraction of a second: overrides of conf/train.yaml.
TINY = (
    "width=32",
    "base.width=32",
    "context=16",
    "tokens=640",
    "batch_tokens=64",
    "validation_tokens=256",
)


# Sweeps that ask Hydra's composition for each of its ways to make a job.
COMPOSED = (
    ["width=32,64", "lr=1e-2,0.02"],
    ["lr=${lr_factor},0.5", "lr_factor=0.1,0.2"],
    ["heads=1,2", "kv_heads=null,1", "model.qk_norm=true,false"],
    ["optimizer=adamw,sgd", "seed=0,1"],
    ["+sweep=variations/proxy", "sweep/variations/change=lion,tied", "width=32", "seed=0"],
    ["parametrization=sp,'mup'", "optimizer.clip_norm=null,0.5", "base.width=32"],
    ["model.mlp=swiglu,gelu", "model.mlp_ratio=4,8/3", "schedule=wsd,cosine"],
    ["++optimizer.momentum=0.5,0.9", "optimizer=sgd"],
)


def scalelab(*arguments: str) -> Result:
    """The command line, in this process."""
    return CliRunner().invoke(app, list(arguments))


def one_line(result: Result) -> str:
    """The refusal of a command: exit status 2, one line on stderr, no traceback."""
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("scalelab: "), lines
    return lines[0]


def squeezed(text: str) -> str:
    """Text with every run of white space as one space: what a console wrapped, unwrapped."""
    return re.sub(r"\s+", " ", text)


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Until something has happened; it has failed after so long."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.01)


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder with its modification time and content."""
    return {
        str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.read_bytes())
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def metrics(folder: Path) -> list[dict[str, Any]]:
    """Every readable line of a run's metrics.jsonl, of all attempts."""
    found = []
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def write_trial(
    folder: Path, spec: RunSpec, loss_nats: float | None, *, cost_flops: int | None = None, reason: str | None = None
) -> RunFolder:
    """A finished run that nobody trained: DIVERGED where there is no loss."""
    at = RunFolder(folder / spec.fingerprint)
    at.write(
        Trial(
            spec=spec,
            outcome=Outcome.DIVERGED if loss_nats is None else Outcome.OK,
            loss_nats=loss_nats,
            cost_flops=spec.cost_flops if cost_flops is None else cost_flops,
            reason=reason,
        )
    )
    return at


def valley(
    *, centre: float = -6.0, exponent: float = 0.0, curvature: float = 0.05, seed_nats: float = 0.002
) -> Callable[[RunSpec], float]:
    """Loss of a spec: a parabola in log2 lr whose bottom is at 2^centre × (width/32)^exponent, and a seed's offset."""

    def loss(spec: RunSpec) -> float:
        octaves = math.log2(spec.hparams.lr) - centre - exponent * math.log2(spec.shape.width / 32)
        offset = seed_nats * (-1) ** spec.seed
        return 3.0 - 0.1 * math.log2(spec.shape.width / 32) + curvature * octaves**2 + offset

    return loss


def sweep(
    folder: Path,
    loss: Callable[[RunSpec], float | None],
    *,
    parametrizations: Sequence[str] = ("mup",),
    widths: Sequence[int] = (32, 64, 128),
    log2_lrs: Iterable[int] = range(-9, -2),
    seeds: Sequence[int] = (0, 1),
    **given: Any,
) -> list[RunSpec]:
    """Run folders of a sweep, each with the loss that a formula gives it (None: diverged)."""
    specs = []
    for log2_lr in log2_lrs:
        for parametrization in parametrizations:
            for width in widths:
                for seed in seeds:
                    spec = make_spec(parametrization, width=width, seed=seed, **given)
                    specs.append(replace(spec, hparams=replace(spec.hparams, lr=2.0**log2_lr)))
    for spec in specs:
        write_trial(folder, spec, loss(spec))
    return specs
