"""The store of trials at scale: many writers at once, some killed; then how long reading takes, and what it takes up.

python benchmarks/store.py [--runs 100000] [--writers 256] [--killed 32] [--records 20] [--folder FOLDER] [--seed 0]

Every writer is a process of its own that does what `jobs.run_jobs` does around a run, with the run itself left out:
it looks for the trial, claims the folder, announces the spec, appends a curve, writes the trial, releases. It goes
through a share of the runs and then through the next writer's, to find them finished or claimed. So many writers as
--killed says are killed -9 at moments drawn at random, and all is launched again until every run is there.
"""

import argparse
import math
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from scalelab.claims import claim
from scalelab.data import load
from scalelab.models import count_flops_per_token
from scalelab.shape import Architecture, Shape
from scalelab.spec import DataSpec, Horizon, Hparams, RunSpec
from scalelab.trials import FINAL, TRIAL_FILE, Outcome, RunFolder, Trial

WIDTHS, DEPTHS, LRS, BATCHES = (32, 64, 96, 128, 192), (2, 4), 25, (512, 1024)


def spec_of(number: int) -> RunSpec:
    """One of a sweep over five widths, two depths, 25 learning rates, two batches, and as many seeds as it takes."""
    rest, width = divmod(number, len(WIDTHS))
    rest, depth = divmod(rest, len(DEPTHS))
    rest, lr = divmod(rest, LRS)
    seed, batch = divmod(rest, len(BATCHES))
    corpus = load("embedded")
    sizes = {"vocab": corpus.vocab, "context": 128, "heads": 2, "kv_heads": 2}
    return RunSpec(
        parametrization="mup", optimizer="adamw", architecture=Architecture(),
        shape=Shape(width=WIDTHS[width], depth=DEPTHS[depth], ffn=4 * WIDTHS[width], **sizes),
        base=Shape(width=32, depth=2, ffn=128, **sizes), hparams=Hparams(lr=2.0 ** (-11 + lr / 4)),
        horizon=Horizon(tokens=51_200, batch_tokens=BATCHES[batch]),
        data=DataSpec(
            name="embedded", sha256=corpus.sha256, vocab=corpus.vocab, bytes_per_token=1.0, validation_tokens=512
        ),
        seed=seed,
    )  # fmt: skip


def loss_of(spec: RunSpec) -> float:
    """A valley about an optimum that moves with the width, over a power law in the size, and a seed's noise."""
    octaves = math.log2(spec.hparams.lr) + 7 + 0.1 * math.log2(spec.shape.width / 32)
    noise = random.Random(spec.fingerprint).gauss(0, 0.02)
    return 2.0 + 8 * count_flops_per_token(spec).six_n_attention ** -0.15 + 0.03 * octaves**2 + noise


def trial_of(spec: RunSpec) -> Trial:
    return Trial(
        spec=spec, outcome=Outcome.OK, loss_nats=loss_of(spec), loss_se_nats=0.01, train_loss_nats=2.5,
        tokens_seen=spec.horizon.tokens, cost_flops=spec.cost_flops, seconds=3.0,
        provenance={"host": f"node{spec.seed % 8}", "device": "cpu", "threads": "1", "torch": "2.13.0", "python": "3",
                    "started": "2026-01-01T00:00:00+00:00", "scalelab": "0"},
    )  # fmt: skip


def write(study: Path, numbers: Sequence[int], records: int) -> None:
    """Do these runs, where nobody else does or has done them."""
    for number in numbers:
        spec = spec_of(number)
        folder = RunFolder(study / f"{number:06}")
        folder.path.mkdir(parents=True, exist_ok=True)
        if folder.final(spec) is not None or (mine := claim(folder.path / ".claim")) is None:
            continue
        if folder.final(spec) is None:
            folder.announce(spec)
            attempt = folder.next_attempt()
            for record in range(records):
                values = {"attempt": attempt, "step": record, "tokens": record * 512, "loss_nats": 3.1, "lr": 0.01}
                if mine.held:
                    folder.append({**values, "seconds": 0.03 * record, "time": time.time()})
            if mine.held:
                folder.write(trial_of(spec))
        mine.release(done=True)


def written(
    study: Path, *, runs: int, writers: int, killed: int, records: int, seed: int, pause_seconds: float = 0.5
) -> int:
    """Have all runs written, killing a writer now and then, after pauses of up to so long; how many were killed."""
    drawn, context = random.Random(seed), multiprocessing.get_context("fork")
    shares = [list(range(at, runs, writers)) for at in range(writers)]
    dead, missing = 0, shares
    while any(missing):
        at_work = [
            context.Process(target=write, args=(study, [*share, *missing[(at + 1) % writers]], records))
            for at, share in enumerate(missing)
        ]
        for process in at_work:
            process.start()
        while alive := [process for process in at_work if process.is_alive()]:
            if dead < killed:
                drawn.choice(alive).kill()
                dead += 1
            time.sleep(drawn.uniform(0, pause_seconds))
        assert {process.exitcode for process in at_work} <= {0, -signal.SIGKILL}
        # Killed between making a claim and writing into it, a writer holds it for a lease.
        missing = [[run for run in share if not (study / f"{run:06}" / TRIAL_FILE).exists()] for share in missing]
    return dead


def torn_or_lost(study: Path, runs: int, records: int) -> tuple[int, int, int]:
    """Runs without a whole trial that is theirs; curves that are not whole; runs that were begun more than once."""
    lost = torn = again = 0
    for number in range(runs):
        folder = RunFolder(study / f"{number:06}")
        trial = folder.read()
        lost += trial != trial_of(spec_of(number)) or trial.outcome not in FINAL
        curve = folder.metrics()
        torn += [record["step"] for record in curve] != list(range(records))
        again += curve[-1]["attempt"] > 1
    return lost, torn, again


def measured(study: Path) -> None:
    """Print what it takes to read a study, by the clock and of a core, the imports in it."""
    table = "import sys; from scalelab import readers; print(len(readers.read([sys.argv[1]]).table), 'rows')"
    ran("status", "-m", "scalelab.cli", "status", str(study))
    ran("table of fit", "-c", table, str(study))


def ran(what: str, *arguments: str) -> None:
    """Run Python, and print what that took and the last line that it said."""
    began, before = time.perf_counter(), os.times()
    said = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout.strip()
    now = os.times()
    core = now.children_user + now.children_system - before.children_user - before.children_system
    took = time.perf_counter() - began
    print(f"  {what}: {took:.1f} s, {core:.1f} s of a core ({said.splitlines()[-1].strip()})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in (("runs", 100_000), ("writers", 256), ("killed", 32), ("records", 20), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--folder", type=Path, help="where to write; one that is removed again by default")
    parser.add_argument("--reuse", action="store_true", help="of --folder: read what is there, write nothing")
    asked = parser.parse_args()
    root = asked.folder or Path(tempfile.mkdtemp(prefix="scalelab-store-"))
    study = root / "study"
    try:
        if not asked.reuse:
            began = time.perf_counter()
            dead = written(
                study, runs=asked.runs, writers=asked.writers, killed=asked.killed, records=asked.records,
                seed=asked.seed,
            )  # fmt: skip
            took = time.perf_counter() - began
            print(f"{asked.runs} runs by {asked.writers} writers, {dead} killed: {took:.0f} s", flush=True)
            lost, torn, again = torn_or_lost(study, asked.runs, asked.records)
            print(f"{asked.runs / took:.0f} a second; lost {lost}, torn {torn}, begun again {again}", flush=True)
        files = [file.stat() for file in study.rglob("*")]
        print(f"{len(files)} inodes, {sum(file.st_blocks for file in files) * 512 / 1e6:.0f} MB on disk")
        (study / "trials.parquet").unlink(missing_ok=True)
        print("without a collection")
        measured(study)
        for what in ("collect", "collect again"):
            ran(what, "-m", "scalelab.cli", "collect", str(study))
        print(f"with the collection of {(study / 'trials.parquet').stat().st_size / 1e6:.1f} MB")
        measured(study)
    finally:
        if asked.folder is None:
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
