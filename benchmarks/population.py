"""Training steps of a population beside those of plain eager torch, as ratios of paired rounds, in one run.

The yardstick is the same network as anybody would write it (`population/plain.py`): ordinary modules, the default
AdamW, one thread, a process that nobody has tuned. Beside it are populations of M members in a worker of ours; the
automatic setting is marked. Variants take turns round by round, so that a machine that changes its speed changes it for
all of them; CPU time a trial and step, the median of the paired ratios. Peak is the best of this machine's float32
products, measured in the same run.

    python benchmarks/population.py [--rounds 7] [--widths 32,64,128,256] [--members 1,2,4,8]
    python benchmarks/population.py --memory     bytes of M members beside M times one
    python benchmarks/population.py --device cuda --members 1,8,32 --sharing 4,8

On a GPU: bfloat16, wall time, and beside the populations so many plain processes that share the device.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from population.worker import PLAIN, spec

from scalelab.models import count_flops_per_token
from scalelab.programs import members as usual_members
from scalelab.workers.environment import FORKED_ENVIRONMENT, WORKER_ENVIRONMENT

WORKER = Path(__file__).parent / "population" / "worker.py"


class Worker:
    """A process that times steps on demand."""

    def __init__(self, environment: Mapping[str, str], device: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), device],
            env={**os.environ, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, question: str) -> float:
        """The answer to `WIDTH MEMBERS`, seconds a trial and step; to `peak`, FLOP/s; to `memory …`, bytes."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(question, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--widths", type=numbers, default=[32, 64, 128, 256])
    parser.add_argument("--members", type=numbers, default=[1, 2, 4, 8])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sharing", type=numbers, default=[], help="plain processes at once")
    parser.add_argument("--memory", action="store_true")
    given = parser.parse_args()
    plain, ours = (
        Worker({"OMP_NUM_THREADS": "1"}, given.device),
        Worker({**WORKER_ENVIRONMENT, **FORKED_ENVIRONMENT}, given.device),
    )
    if given.memory:
        memory(ours, given.widths, given.members)
        return
    print(f"{given.rounds} rounds, 8 sequences of 64 tokens, depth 2; × plain torch's throughput; * is automatic")
    print(f"{'width':>5} {'plain ms':>9} " + " ".join(f"{f'M={m}':>7}" for m in given.members) + "  GFLOP/s  of peak")
    for width in given.widths:
        rows, peaks = [], []
        for _ in range(given.rounds + 1):  # the first warms up
            rows.append([plain.ask(f"{width} {PLAIN}"), *(ours.ask(f"{width} {m}") for m in given.members)])
            peaks.append(ours.ask("peak"))
        rows, run = rows[1:], spec(width)
        flops = count_flops_per_token(run).six_n_attention * run.horizon.batch_tokens
        ratios = [statistics.median(row[0] / row[at] for row in rows) for at in range(1, len(rows[0]))]
        usual = usual_members(run) if given.device == "cpu" else given.members[-1]
        shown = " ".join(f"{f'{r:.2f}' + '*' * (m == usual):>7}" for m, r in zip(given.members, ratios, strict=True))
        best = min(min(row[1:]) for row in rows)
        print(
            f"{width:>5} {1e3 * min(row[0] for row in rows):>9.2f} {shown}  {flops / best / 1e9:>7.1f}"
            f"  {flops / best / max(peaks):>6.0%}",
            flush=True,
        )
        for count in given.sharing:
            print(f"      {count} plain processes at once: {shared(count, width, given.device):.2f}", flush=True)


def shared(count: int, width: int, device: str) -> float:
    """Throughput of so many plain processes that share a device, in that of one."""
    several = [Worker({"OMP_NUM_THREADS": "1"}, device) for _ in range(count)]
    question = f"{width} {PLAIN}"
    for worker in several:
        worker.ask(question)
    alone = several[0].ask(question)
    with ThreadPoolExecutor(count) as pool:
        together = list(pool.map(lambda worker: worker.ask(question), several))
    return sum(alone / seconds for seconds in together)


def memory(ours: Worker, widths: list[int], members: list[int]) -> None:
    """What M members hold beside M times what one does: weights and moments; and at the height of a step."""
    print("bytes of M members / (M × bytes of one): held, and at the height of a step")
    for width in widths:
        one = [ours.ask(f"{kind} {width} 1") for kind in ("held", "peak_memory")]
        shown = []
        for m in members:
            held, height = ours.ask(f"held {width} {m}"), ours.ask(f"peak_memory {width} {m}")
            shown.append(f"M={m}: {held / m / one[0]:.3f}, {height / m / one[1]:.3f}")
        print(f"width {width}: " + "; ".join(shown))


if __name__ == "__main__":
    main()
