"""What people see of sweeps: a line a study, once or again and again."""

import contextlib
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from scalelab.console import grid
from scalelab.errors import Refused
from scalelab.machine import matmul_peak
from scalelab.status import Look, Peaks, State, StudyStatus, known_peaks, studies_as_json

KWH = 3.6e6  # joules
PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
ENDED = (State.OK, State.DIVERGED)


def status(
    folders: Sequence[Path],
    console: Console,
    *,
    every: float | None = None,
    as_json: bool = False,
    measure_peak: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Print how the studies at or below these folders stand.

    Args:
        folders: of runs, studies or several studies.
        console: where to; a table that is looked at again replaces itself there if it is a terminal.
        every: look again after so many seconds, until nothing is running or waiting; None: once.
        as_json: a JSON document a look, in one line where there are several.
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
        if as_json:
            for found in _looks(seen, studies, every, sleep):
                plain = studies_as_json(found, known_peaks(found))
                typer.echo(json.dumps(plain, indent=None if every else 1, allow_nan=False))
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


def prefixed(value: float) -> str:
    """A count with an SI prefix and three digits.

    >>> prefixed(51_200), prefixed(4.12e10), prefixed(999)
    ('51.2 k', '41.2 G', '999')
    """
    for size, prefix in PREFIXES:
        if value >= size:
            return f"{value / size:.3g} {prefix}" if value < 999.5 * size else f"{value / size:,.0f} {prefix}"
    return f"{value:.0f}"


def energy(joules: float) -> str:
    """Joules, from a hundredth of a kilowatt-hour on in those.

    >>> energy(1234.5), energy(4.5e5)
    ('1.23 kJ', '0.125 kWh')
    """
    return f"{joules / KWH:.3g} kWh" if joules >= KWH / 100 else f"{prefixed(joules)}J"


def duration(seconds: float) -> str:
    """A time in the two units that matter, what is smaller left out.

    >>> duration(42), duration(75), duration(5_400), duration(200_000)
    ('42 s', '1 min 15 s', '1 h 30 min', '2 d 7 h')
    """
    whole = round(seconds)
    for size, unit, part, smaller in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {smaller}"
    return f"{whole} s"
