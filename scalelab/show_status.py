"""What people see of sweeps: a line a study, once or again and again."""

import contextlib
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from scalelab.answering import Answer
from scalelab.console import duration, energy, grid, prefixed
from scalelab.errors import Refused
from scalelab.machine import matmul_peak
from scalelab.status import Look, Peaks, State, StudyStatus, known_peaks, studies_as_json

ENDED = (State.OK, State.DIVERGED)


def status(
    folders: Sequence[Path],
    console: Console,
    *,
    every: float | None = None,
    answer: Answer | None = None,
    measure_peak: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Print how the studies at or below these folders stand.

    Args:
        folders: of runs, studies or several studies.
        console: where to; a table that is looked at again replaces itself there if it is a terminal.
        every: look again after so many seconds, until nothing is running or waiting; None: once.
        answer: where to give JSON types instead, an object a look, in one line where there are several.
        measure_peak: measure this machine's matmul peak for what was trained here, where it is not known.
        sleep: how to wait.

    Raises:
        Refused: where a folder is absent or has no runs.
    """
    seen = Look(folders)
    studies = seen.studies()
    if measure_peak:
        measure(studies)
    with contextlib.suppress(KeyboardInterrupt):  # how one stops watching
        if answer is not None:
            for found in _looks(seen, studies, every, sleep):
                answer({"studies": studies_as_json(found, known_peaks(found))}, indent=None if every else 1)
        elif every is None or not console.is_terminal:
            for found in _looks(seen, studies, every, sleep):
                console.print(shown(found, known_peaks(found)))
        else:
            with Live(console=console, auto_refresh=False) as live:
                for found in _looks(seen, studies, every, sleep):
                    live.update(shown(found, known_peaks(found)), refresh=True)


def _looks(
    seen: Look, first: Sequence[StudyStatus], every: float | None, sleep: Callable[[float], None]
) -> Iterator[Sequence[StudyStatus]]:
    """One look after the other, as long as something is under way."""
    yield first
    while every is not None and any(study.under_way for study in first):
        sleep(every)
        first = seen.studies()
        yield first


def measure(studies: Sequence[StudyStatus]) -> None:
    """Measure the peak for each device and thread count that runs of these studies had on this machine.

    Raises:
        Refused: where none of them was trained here, with the torch that is here.
    """
    import torch

    machines = {machine for study in studies for machine in study.work}
    here = [at for at in machines if (at.host, at.torch) == (platform.node(), torch.__version__)]
    if not here:
        named = ", ".join(sorted({f"{at.host} (torch {at.torch})" for at in machines})) or "no machine yet"
        raise Refused(
            f"--measure-peak on {platform.node()} (torch {torch.__version__}), where none of these runs has ended:"
            f" they have on {named}, measure there"
        )
    for machine in here:
        matmul_peak(machine.device, threads=machine.threads)


def shown(studies: Sequence[StudyStatus], peaks: Peaks) -> RenderableType:
    """A row a study; a column only where something is in it."""
    kept = {heading: of for heading, of in cells(peaks).items() if any(of(study) is not None for study in studies)}
    rows = [[str(study.folder), *(of(study) or "—" for of in kept.values())] for study in studies]
    notes = []
    if any(study.horizons_unknown for study in studies):
        notes.append("≥: of some runs no file says how long they are (they were begun by an older scalelab)")
    if any(study.counts.get(State.UNREADABLE) for study in studies):
        notes.append("unreadable: a trial.json that is corrupt or of another version; `fit` says which")
    return Group(grid("", ["study", *kept], rows), *(Text(note, style="dim") for note in notes))


def cells(peaks: Peaks) -> dict[str, Callable[[StudyStatus], str | None]]:
    """What stands in each column, None where there is nothing to say."""
    states = [State.DIVERGED, *(state for state in State if state not in ENDED)]
    return {
        "done": lambda study: f"{sum(study.counts.get(state, 0) for state in ENDED)} of {study.runs}",
        **{state.lower(): partial(_count, state) for state in states},
        "tokens": _tokens,
        "FLOPs": lambda study: f"{study.flops:.2e}",
        "worker-s": lambda study: f"{study.seconds:,.0f}",
        "FLOP/s a worker": lambda study: _known(study.flops_per_second, prefixed),
        "of peak": lambda study: _known(study.peak_share(peaks), "{:.0%}".format),
        "energy": lambda study: _known(study.energy_joules, energy),
        "left": lambda study: _known(study.eta_seconds, duration),
    }


def _known(value: float | None, written: Callable[[float], str]) -> str | None:
    return None if value is None else written(value)


def _count(state: State, study: StudyStatus) -> str | None:
    return str(study.counts[state]) if state in study.counts else None


def _tokens(study: StudyStatus) -> str:
    least = "≥ " if study.horizons_unknown else ""
    return f"{prefixed(study.tokens)} of {least}{prefixed(study.tokens_total)}"
