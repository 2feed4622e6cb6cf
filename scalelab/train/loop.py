"""The loop over a population's steps: who joins, who leaves, what is told to whom."""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor

from scalelab import stopping
from scalelab.machine import Meter
from scalelab.spec import RunSpec
from scalelab.train import checkpoint
from scalelab.train.batches import Batches, corpus_of
from scalelab.train.ended import ended, validated
from scalelab.train.member import Member, begun, on_curve, record
from scalelab.train.population import Population, stacks
from scalelab.train.starts import Starts
from scalelab.train.watch import Watch
from scalelab.trials import Outcome, Trial

SAVE_SECONDS = 300.0  # of a run's own time, from one checkpoint to the next
UNREAD_STEPS = 32  # on a GPU: the host reads the losses this often, and does not wait in between


@dataclass(kw_only=True)
class Loop:
    """Trains the specs of one program, `size` of them at a time; `trials` fills as they end."""

    specs: Mapping[int, RunSpec]
    watches: Mapping[int, Watch]
    device: str
    size: int
    compiled: bool = False
    trials: dict[int, Trial] = field(default_factory=dict)
    unread: list[tuple[list[int], Tensor, Tensor]] = field(default_factory=list)  # steps, cross-entropies, losses: [M]
    clock: float = 0.0

    def run(self) -> None:
        """Train them all to their ends."""
        spec = next(iter(self.specs.values()))
        self.batches, self.meter = Batches(corpus_of(spec), spec, self.device), Meter(self.device)
        self.starts = Starts(specs=self.specs, watches=self.watches, device=self.device)
        members: list[Member] = []
        while self.starts.line or members:
            short = False
            try:
                members = self._trained(members)
            except (MemoryError, RuntimeError) as error:
                if self.size == 1 or not _out_of_memory(error):
                    raise
                short = True
            if short:  # out of the handler, whose traceback holds the population
                members = self._halved()

    def _trained(self, members: list[Member]) -> list[Member]:
        """Fill the free places and train until somebody leaves; those who stay."""
        members = [*members, *self._joining(self.size - len(members))]
        population = Population(members, compiled=self.compiled)
        self.clock = time.perf_counter()
        while True:
            staying = self._settled(population)
            if len(staying) < len(members) or (self.starts.line and len(staying) < self.size):
                return staying
            if stopping.asked():
                self._stop(population)
            self._step(population)

    def _stop(self, population: Population) -> NoReturn:
        """Save everyone who is in training; those in line have not begun, or are saved where they branched off."""
        if self.unread:
            self._read(population.members)
        for member in population.members:
            if member.index not in self.trials:
                self._save(member)
        raise stopping.Stopped

    def _joining(self, places: int) -> list[Member]:
        joined: list[Member] = []
        while self.starts.line and len(joined) < places:
            start = self.starts.line.popleft()
            joined.append(begun(start.index, self.specs[start.index], self.device, start.state))
            for values in start.records:
                self._tell(joined[-1], dict(values))
            if not stacks(joined[-1].network):
                self.size = places = 1
        return joined

    def _step(self, population: Population) -> None:
        members = population.members
        steps, tokens_MBT = [member.step for member in members], self.batches.at(members)
        self.unread.append((steps, *population.step(tokens_MBT)))

    def _settled(self, population: Population) -> list[Member]:
        """See to everyone who is due: branches begin, rungs are asked, ends are validated. Those who stay."""
        members = population.members
        due = [place for place, member in enumerate(members) if self._due(member)]
        if self.unread and (due or self.device == "cpu" or len(self.unread) >= UNREAD_STEPS):
            self._read(members)
        due = [place for place in due if members[place].index not in self.trials]
        for member in (members[place] for place in due):
            self.starts.fork(member)
        measured = [place for place in due if members[place].ended or self._at_rung(members[place])]
        losses = population.validate(measured, self.batches.validation()) if measured else []
        if measured:
            self._charge([members[place] for place in measured])
        for place, loss in zip(measured, losses, strict=True):
            self._validated(members[place], loss, beside=len(members))
        staying = [member for member in members if member.index not in self.trials]
        for member in staying:
            if self.watches[member.index].checkpoint and member.seconds - member.saved_seconds > SAVE_SECONDS:
                self._save(member)
        return staying

    def _due(self, member: Member) -> bool:
        return member.ended or self._at_rung(member) or self.starts.due(member)

    def _at_rung(self, member: Member) -> bool:
        pruner = self.watches[member.index].pruner
        return pruner is not None and member.step in pruner.rungs and member.rung < member.step

    def _read(self, members: list[Member]) -> None:
        """Take the losses of the last steps from the device, tell them, and end whom they show to have diverged."""
        steps, means, losses = zip(*self.unread, strict=True)
        self.unread.clear()
        rows = zip(steps, torch.stack(means).tolist(), torch.stack(losses).tolist(), strict=True)
        self._charge(members)
        for row in rows:
            for member, step, mean, loss in zip(members, *row, strict=True):
                if member.index in self.trials:
                    continue
                member.last_loss = loss
                if step == 0:
                    member.first_loss = mean
                if on_curve(member.spec, step, loss):
                    self._tell(member, record(member, step, loss))
                elif self.starts.forks.get(member.index):  # a shorter branch has more steps on its curve
                    member.records.append(record(member, step, loss))
                if not math.isfinite(loss):
                    reason = f"training loss {loss} at step {step}"
                    self._end(member, ended(member, self.device, len(members), steps=step, diverged=reason))

    def _charge(self, members: Sequence[Member]) -> None:
        """Put the time and the energy since the last charge on these members, evenly."""
        clock, self.clock = self.clock, time.perf_counter()
        joules = self.meter.since(torch.get_num_threads())
        for member in members:
            member.seconds += (self.clock - clock) / len(members)
            member.joules += joules / len(members)

    def _tell(self, member: Member, values: dict[str, Any]) -> None:
        member.records.append(values)
        for observer in self.watches[member.index].observers:
            observer.record(values)

    def _validated(self, member: Member, loss: tuple[float, float], *, beside: int) -> None:
        if not member.ended:
            self._asked(member, loss[0], beside=beside)
        else:
            self._end(member, validated(member, self.device, beside, loss))

    def _asked(self, member: Member, loss: float, *, beside: int) -> None:
        """Ask the pruner at a rung; a run that it ends is saved, and may be continued."""
        pruner = self.watches[member.index].pruner
        assert pruner is not None
        tokens = member.step * member.spec.horizon.batch_tokens
        self._tell(member, {**record(member, member.step, member.last_loss), "validation_loss_nats": loss})
        if reason := pruner.stops(step=member.step, tokens=tokens, loss_nats=loss):
            self._save(member)  # not as one that was asked here: launched again, it is asked again
            self._end(member, ended(member, self.device, beside, pruned=reason))
        else:
            member.rung = member.step

    def _save(self, member: Member) -> None:
        if path := self.watches[member.index].checkpoint:
            checkpoint.save(path, member.state())
            shutil.rmtree(path.with_name(checkpoint.SHARDED), ignore_errors=True)  # of several processes, before
            member.saved_seconds = member.seconds

    def _end(self, member: Member, trial: Trial) -> None:
        self.trials[member.index] = trial
        if trial.outcome is Outcome.OK and self.watches[member.index].keep_checkpoint:
            self._save(member)
        self.batches.forget(member)
        watch = self.watches[member.index]
        if watch.ended is not None:
            watch.ended(trial)
        if watch.pruner is not None:
            watch.pruner.ended(trial)
        for index in self.starts.abandoned(member.index):
            if trial.outcome is Outcome.PRUNED:
                self.starts.again([index])
                continue
            steps = trial.tokens_seen // member.spec.horizon.batch_tokens
            fate = Member(
                index=index, spec=self.specs[index], network=member.network, trunk=member.spec.fingerprint,
                trunk_steps=steps,
            )  # fmt: skip
            for values in self.starts.told(member, index):
                self._tell(fate, dict(values))
            self._end(fate, ended(fate, self.device, 1, steps=steps, diverged=trial.reason))

    def _halved(self) -> list[Member]:
        """Half as many at a time; all who are not done begin again from what is saved of them."""
        self.size = max(1, min(self.size, len(self.specs)) // 2)
        self.unread.clear()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
        waiting = self.starts.waiting
        self.starts.again([index for index in self.specs if index not in self.trials and index not in waiting])
        return []


def _out_of_memory(error: BaseException) -> bool:
    said = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        text in said
        for text in ("can't allocate memory", "not enough memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
    )
