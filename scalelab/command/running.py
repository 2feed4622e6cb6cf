"""One run by a command: started, listened to, ended where it is to end, judged."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from scalelab import stopping
from scalelab.command.curve import Curve
from scalelab.command.outcome import judged, trial_of
from scalelab.command.process import Ended, Process
from scalelab.command.reading import Seen, source_of
from scalelab.command.render import GROUPS_FILE, Place, rendered
from scalelab.files import write_atomically
from scalelab.spec import RunSpec
from scalelab.trials import Outcome, Trial

POLL_SECONDS = 0.2
HELD_SECONDS = 5.0


class CommandFailed(RuntimeError):
    """A command has not come to a result; its trial says why, too."""


class Observer(Protocol):
    """Who is told the curve, as of a run that scalelab trains (`train.watch`)."""

    def record(self, values: Mapping[str, Any]) -> None: ...


class Pruner(Protocol):
    """Who may end a run before its horizon, as of a run that scalelab trains (`train.watch`)."""

    @property
    def rungs(self) -> Sequence[int]: ...
    def stops(self, *, step: int, tokens: int, loss_nats: float) -> str | None: ...
    def ended(self, trial: Trial) -> None: ...


def run(
    spec: RunSpec,
    place: Place,
    *,
    observers: Sequence[Observer] = (),
    ended: Callable[[Trial], None] | None = None,
    pruner: Pruner | None = None,
    held: Callable[[], bool] = lambda: True,
) -> Trial:
    """Run the command of a spec to its end.

    Args:
        spec: with a command.
        place: the run folder, the device, the number of the attempt.
        observers: are told its curve as it appears.
        ended: is told its trial, as soon as there is one.
        held: whether the folder is still this process's; where it is not, the command is ended.
        pruner: may end it; asked when a validation loss of one of its rungs, or of a later step, is told.

    Raises:
        CommandFailed: where it has not come to a result, after its trial was told.
        Stopped: where it was asked to stop (`stopping`); launched again, it goes on by its own means.
        Refused: on a template that cannot be filled; where a process of an earlier launch does not end.
    """
    trial = _Run(spec=spec, place=place, observers=observers, pruner=pruner, held=held).trial()
    trial = replace(
        trial, provenance={"device": place.device, "threads": str(place.threads), "attempt": str(place.attempt)}
    )
    if ended is not None:
        ended(trial)
    if pruner is not None:
        pruner.ended(trial)
    if trial.outcome is Outcome.FAILED:
        raise CommandFailed(f"{place.folder}: {trial.reason}")
    return trial


@dataclass(kw_only=True)
class _Run:
    """A run under way. `pruned` is why it is to end before its time."""

    spec: RunSpec
    place: Place
    observers: Sequence[Observer]
    pruner: Pruner | None
    held: Callable[[], bool]
    started: float = field(default_factory=time.monotonic)
    asked: set[int] = field(default_factory=set)  # rungs
    pruned: str | None = None
    timed_out: str | None = None
    looked: float = 0.0

    def trial(self) -> Trial:
        assert self.spec.command is not None
        command, found = self.spec.command, rendered(self.spec, self.place)
        self.curve = Curve(spec=self.spec)
        source = source_of(command.reading, found.read, bytes_per_token=self.spec.data.bytes_per_token)
        found.checkpoint.mkdir(parents=True, exist_ok=True)
        found.read.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.place.folder / GROUPS_FILE, found.groups)
        rungs = ",".join(map(str, self.pruner.rungs)) if self.pruner is not None else ""
        found = replace(found, env={**found.env, "SCALELAB_RUNGS": rungs})
        limit = command.option("timeout_minutes")
        with Process(
            rendered=found, folder=self.place.folder, grace_seconds=float(command.option("grace_seconds") or 0)
        ) as process:
            while (ended := process.poll(POLL_SECONDS)) is None:
                self._listen(source.new(last=False))
                if limit is not None and self.seconds > 60 * limit:
                    self.timed_out = f"it took longer than trainer.timeout_minutes={limit:g}"
                self._look()
                if stopping.asked() or self.curve.diverged or self.pruned or self.timed_out:
                    process.stop()
        self._listen(source.new(last=True))
        if self.curve.diverged is None and (self.pruned or self.timed_out):
            return self._ended_early(ended)
        outcome, loss, reason = judged(self.spec, self.curve, ended, source, found.log)
        if stopping.asked() and outcome is Outcome.FAILED:
            raise stopping.Stopped
        return trial_of(self.spec, self.curve, outcome, loss=loss, reason=reason, seconds=self.seconds)

    def _look(self) -> None:
        """See now and then that the folder is ours: somebody who took this process for dead may be at work in it."""
        if self.seconds - self.looked > HELD_SECONDS:
            self.looked = self.seconds
            if not self.held():
                raise CommandFailed(f"{self.place.folder}: another process has taken this run over")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def _ended_early(self, ended: Ended) -> Trial:
        if self.pruned is not None:
            outcome, reason = Outcome.PRUNED, self.pruned
        else:
            outcome, reason = Outcome.FAILED, f"{self.timed_out}; {ended}"
        return trial_of(self.spec, self.curve, outcome, loss=None, reason=reason, seconds=self.seconds)

    def _listen(self, new: "Sequence[Seen] | Any") -> None:
        for seen in new:
            for values in self.curve.put(seen, seconds=self.seconds):
                for observer in self.observers:
                    observer.record(values)
            if seen.validation_loss is not None:
                self._ask(seen.validation_loss)

    def _ask(self, loss: float) -> None:
        """Ask the pruner at every rung that has been passed, in their order, each once."""
        step = self.curve.step
        if self.pruner is None or step is None or self.pruned or self.curve.diverged:
            return
        for rung in sorted(rung for rung in self.pruner.rungs if rung <= step and rung not in self.asked):
            self.asked.add(rung)
            tokens = rung * self.spec.horizon.batch_tokens
            if self.pruned is None:
                self.pruned = self.pruner.stops(step=rung, tokens=tokens, loss_nats=loss)
