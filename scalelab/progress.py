"""Progress of a launched plan, read from its run folders: the same for one run, a local sweep or a cluster's."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from scalelab.spec import RunSpec
from scalelab.trials import METRICS_FILE, RunFolder

POLL_SECONDS = 0.5
LINE_SECONDS = 15.0  # between lines where the output is no terminal


@dataclass
class _Watch:
    """What has been seen of the runs under way."""

    runs: Sequence[tuple[RunSpec, RunFolder]]
    done: dict[int, float | None] = field(default_factory=dict)  # index of a finished run → its loss
    tokens: dict[int, int] = field(default_factory=dict)
    last_loss: float | None = None

    def look(self) -> None:
        for index, (spec, folder) in enumerate(self.runs):
            if index in self.done:
                continue
            if trial := folder.final(spec):
                self.done[index] = self.last_loss = trial.loss_nats
                self.tokens[index] = spec.horizon.tokens
            else:
                self.tokens[index] = _tokens_so_far(folder)

    @property
    def text(self) -> str:
        if not self.done:
            return "…"
        return "diverged" if self.last_loss is None else f"{self.last_loss:.3f} nats"


def _tokens_so_far(folder: RunFolder) -> int:
    file = folder.path / METRICS_FILE
    if not file.exists():
        return 0
    with file.open("rb") as lines:
        lines.seek(max(0, lines.seek(0, 2) - 400))
        tail = lines.read().decode(errors="replace").splitlines()
    for line in reversed(tail):
        if line.startswith("{") and line.endswith("}"):
            return int(json.loads(line)["tokens"])
    return 0


@contextmanager
def watched(runs: Sequence[tuple[RunSpec, RunFolder]], console: Console) -> Iterator[None]:
    """Show, while the body runs: runs done, tokens a second, the last validation loss, the time left."""
    watch, stop = _Watch(runs), threading.Event()
    total = sum(spec.horizon.tokens for spec, _ in runs)
    bar = Progress(
        BarColumn(bar_width=12),
        TextColumn("{task.percentage:3.0f} % · {task.fields[done]} runs · {task.fields[rate]} tokens/s"),
        TextColumn("· last {task.fields[loss]} ·"), TimeRemainingColumn(), TextColumn("left"),
        console=console, transient=False, disable=not console.is_terminal,
    )  # fmt: skip
    task = bar.add_task("train", total=total, done=f"0/{len(runs)}", rate="…", loss="…")

    def keep_looking() -> None:
        started = said = time.monotonic()
        while True:
            ended = stop.wait(POLL_SECONDS)
            watch.look()
            seconds = time.monotonic() - started
            seen = sum(watch.tokens.values())
            rate = f"{seen / seconds:,.0f}"
            done = f"{len(watch.done)}/{len(runs)}"
            bar.update(task, completed=seen, done=done, rate=rate, loss=watch.text)
            late = time.monotonic() - said > LINE_SECONDS
            if not console.is_terminal and (ended or late):
                said = time.monotonic()
                left = f"{seconds * (total - seen) / seen:,.0f} s left" if seen else "…"
                console.print(
                    f"{done} runs · {seen / total:.0%} · {rate} tokens/s · last {watch.text} · {left}",
                    highlight=False,
                )
            if ended:
                return

    thread = threading.Thread(target=keep_looking, daemon=True)
    with bar:
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
