"""Runs of one study → how it stands: what is done, what it cost, when what is under way will have ended."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scalelab.machine import Peak, known_peak
from scalelab.status.run import Machine, RunStatus, State

Peaks = Mapping[Machine, Peak]

JUDGED = (State.OK, State.DIVERGED, State.PRUNED)  # a failure's seconds have FLOPs that are not known to the last
CUT = (State.DIVERGED, State.PRUNED)  # what they leave of their horizon is not going to be trained


@dataclass(frozen=True, kw_only=True)
class Work:
    """FLOPs and the worker's seconds that they took."""

    flops: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class StudyStatus:
    """How a study stands.

    `counts` has every state that a run is in. `tokens_total` is what will have been trained when every run has ended:
    without the runs whose horizon no file says (`horizons_unknown`), and without what diverged or pruned runs left.
    `flops` (6N plus attention) and `seconds` are those of each run's last attempt, `energy_joules` those of the runs
    that know it (`energy_runs` of them), None where none does. `flops_per_second` is what a worker has achieved,
    validation in the time and not in the FLOPs. `eta_seconds` is the time until what is running or waiting has ended
    (see `eta_seconds`); None where nothing is running, or too little is known.
    """

    folder: Path
    counts: Mapping[State, int]
    tokens: int
    tokens_total: int
    horizons_unknown: int
    flops: float
    seconds: float
    energy_joules: float | None
    energy_runs: int
    flops_per_second: float | None
    eta_seconds: float | None
    work: Mapping[Machine, Work]

    @property
    def runs(self) -> int:
        return sum(self.counts.values())

    @property
    def under_way(self) -> bool:
        """Whether something is running, or waiting to."""
        return bool(self.counts.get(State.RUNNING, 0) or self.counts.get(State.WAITING, 0))

    def peak_share(self, peaks: Peaks) -> float | None:
        """What the runs that have ended achieved, of what their machines' matmul peaks give in the same time."""
        known = [(done, peaks[machine]) for machine, done in self.work.items() if machine in peaks]
        possible = sum(done.seconds * peak.flops_per_second for done, peak in known)
        return sum(done.flops for done, _ in known) / possible if possible else None


def study_status(folder: Path, runs: Sequence[RunStatus]) -> StudyStatus:
    """The runs of a study, put together."""
    counts = {state: sum(run.state is state for run in runs) for state in State}
    drawn = [run.energy_joules for run in runs if run.energy_joules is not None]
    judged = [run for run in runs if run.state in JUDGED or run.state is State.RUNNING]
    seconds = math.fsum(run.seconds for run in judged)
    work: dict[Machine, Work] = {}
    for run in runs:
        if run.machine is not None and run.state in JUDGED:
            before = work.get(run.machine, Work())
            work[run.machine] = Work(flops=before.flops + run.flops, seconds=before.seconds + run.seconds)
    return StudyStatus(
        folder=folder, counts={state: count for state, count in counts.items() if count},
        tokens=sum(run.tokens for run in runs),
        tokens_total=sum(run.tokens if run.state in CUT else run.horizon or run.tokens for run in runs),
        horizons_unknown=sum(run.horizon is None for run in runs),
        flops=math.fsum(run.flops for run in runs), seconds=math.fsum(run.seconds for run in runs),
        energy_joules=math.fsum(drawn) if drawn else None, energy_runs=len(drawn),
        flops_per_second=math.fsum(run.flops for run in judged) / seconds if seconds else None,
        eta_seconds=eta_seconds(runs), work=work,
    )  # fmt: skip


def eta_seconds(runs: Sequence[RunStatus]) -> float | None:
    """Until the last of the runs that are running or waiting has ended, by as many workers as are at work now.

    A run that is running goes on as it goes now; one that waits, or has just begun, goes as those of its size did, or
    of the nearest size: FLOP/s grow with a model, so that the first estimates of a sweep over sizes are too long.
    """
    running = [run for run in runs if run.state is State.RUNNING]
    ahead = [*running, *(run for run in runs if run.state is State.WAITING)]
    paces = _paces(runs)
    left: list[float] = []  # seconds of a worker, in the order of `ahead`
    for run in ahead:
        if not paces or run.flops_left is None or not run.flops_per_token:
            return None
        pace = run.flops_per_second or paces[_nearest(paces, run.flops_per_token)]
        left.append(run.flops_left / pace)
    if not running:
        return None
    alone = [seconds / run.workers for seconds, run in zip(left, running, strict=False)]
    return max(*alone, math.fsum(left) / math.fsum(run.workers for run in running))


def _paces(runs: Sequence[RunStatus]) -> dict[float, float]:
    """FLOP/s of a worker by FLOPs a token, over what has ended or is running."""
    done: dict[float, Work] = {}
    for run in runs:
        if run.flops_per_token and run.flops and run.seconds and (run.state in JUDGED or run.state is State.RUNNING):
            size = round(run.flops_per_token)
            before = done.get(size, Work())
            done[size] = Work(flops=before.flops + run.flops, seconds=before.seconds + run.seconds)
    return {size: work.flops / work.seconds for size, work in done.items()}


def _nearest(sizes: Iterable[float], size: float) -> float:
    return min(sizes, key=lambda other: abs(math.log(other / size)))


def known_peaks(studies: Sequence[StudyStatus]) -> dict[Machine, Peak]:
    """The matmul peaks that have been measured, of the machines that these studies ran on."""
    machines = {machine for study in studies for machine in study.work}
    found = {m: known_peak(m.device, threads=m.threads, torch=m.torch, host=m.host) for m in machines}
    return {machine: peak for machine, peak in found.items() if peak is not None}
