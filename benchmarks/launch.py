"""Wall time of a sweep of small proxies by how it is launched: a process a trial, joblib's workers, fused.

64 trials of 30 steps, two layers of width 64, on two cores. A process a trial is run for some of them and scaled up;
all three are run one after the other in one program, so that the ratios are of one machine in one state.
`python benchmarks/launch.py [TRIALS_BY_PROCESS]`
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TRIALS, WORKERS = 64, 2
RUN = ("width=64", "depth=2", "context=64", "tokens=15360")
LRS = [2.0 ** (-9 + k / 4) for k in range(16)]
SEEDS = range(4)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def scalelab(*arguments: str) -> None:
    command = [sys.executable, "-m", "scalelab.cli", "train", *RUN, *arguments]
    ran = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(f"{' '.join(arguments)}: {ran.stderr}")


def by_process(trials: int, out: str) -> float:
    """Seconds for so many trials, each in a process of its own, two at a time."""
    settings = [(lr, seed) for seed in SEEDS for lr in LRS][:trials]
    started = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as starting:
        list(starting.map(lambda at: scalelab(f"lr={at[0]}", f"seed={at[1]}", f"out={out}"), settings))
    return time.perf_counter() - started


def by_launcher(out: str, *arguments: str) -> float:
    """Seconds for the sweep as one command."""
    grid = (f"lr={','.join(map(str, LRS))}", f"seed={','.join(map(str, SEEDS))}")
    started = time.perf_counter()
    scalelab("-m", *grid, f"out={out}", *arguments)
    return time.perf_counter() - started


def losses(out: str) -> dict[str, float]:
    trials = [json.loads(file.read_text()) for file in Path(out).rglob("trial.json")]
    return {trial["fingerprint"]: trial["loss_nats"] for trial in trials}


def main(trials_by_process: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        a, b, c = (f"{folder}/{name}" for name in "abc")
        seconds = {
            f"a process a trial ({trials_by_process} of {TRIALS}, scaled)":
                by_process(trials_by_process, a) * TRIALS / trials_by_process,
            "hydra/launcher=joblib": by_launcher(b, "hydra/launcher=joblib", f"hydra.launcher.n_jobs={WORKERS}"),
            "hydra/launcher=fused": by_launcher(c, "hydra/launcher=fused", f"hydra.launcher.workers={WORKERS}"),
        }  # fmt: skip
        assert losses(b) == losses(c) and len(losses(c)) == TRIALS, "the launchers' losses differ"
        assert losses(a).items() <= losses(c).items(), "the launchers' losses differ"
    fused = seconds["hydra/launcher=fused"]
    print(f"{TRIALS} trials of {' '.join(RUN)}, {WORKERS} workers of one thread; the losses are equal bit for bit")
    print(f"{'':<40} {'seconds':>8} {'trials/s':>9} {'× fused':>8}")
    for name, took in seconds.items():
        print(f"{name:<40} {took:>8.1f} {TRIALS / took:>9.2f} {took / fused:>8.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
