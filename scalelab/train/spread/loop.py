"""The loop over the steps of one run, in every process that has a part of it: the same decisions in all of them."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from scalelab import stopping
from scalelab.data.corpus import validation_batches
from scalelab.machine import Meter
from scalelab.parallel import Parallel
from scalelab.spec import RunSpec
from scalelab.train import checkpoint as ordinary
from scalelab.train import loop as population
from scalelab.train.batches import VALIDATION_SEQUENCES, Batches, corpus_of
from scalelab.train.ended import ended, validated
from scalelab.train.member import SO_FAR, Member, State, on_curve, record
from scalelab.train.population import mean_and_error
from scalelab.train.spread import checkpoint
from scalelab.train.spread.group import Group
from scalelab.train.spread.network import Spread, like, put
from scalelab.train.watch import Watch
from scalelab.trials import Trial


@dataclass(kw_only=True)
class SpreadLoop:
    """Trains a run to its horizon. Rank 0 alone has observers in its `watch`; the others know of it the checkpoint."""

    spec: RunSpec
    watch: Watch
    parallel: Parallel
    group: Group
    device: str
    unread: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)  # step, cross-entropy, loss
    clock: float = 0.0

    def run(self) -> Trial:
        """Its trial, the same in all processes."""
        part = self.group.rank, self.group.size
        self.batches = Batches(corpus_of(self.spec), self.spec, self.device, part=part)
        self.meter = Meter(self.device)
        self.spread = Spread(self.spec, self.parallel, self.group, self.device)
        member = self._begun()
        member.step_alone()
        self.meter.since(torch.get_num_threads())
        self.clock = time.perf_counter()
        reason = self._trained(member)
        loss = None if reason else self.validation()
        self._charge(member)
        self._add_up_joules(member)
        if loss is None:
            trial = ended(member, self.device, 1, steps=member.step, diverged=reason)
        else:
            trial = validated(member, self.device, 1, loss)
        trial = self._signed(trial)
        if trial.reason is None and self.watch.keep_checkpoint:
            self._save(member)
        if self.watch.ended is not None:
            self.watch.ended(trial)
        return trial

    def _trained(self, member: Member) -> str | None:
        """Train to the horizon; why not until there, of a run that diverged."""
        stop = due = False
        while True:
            now = self.device == "cpu" or member.ended or len(self.unread) >= population.UNREAD_STEPS
            if self.unread and (now or stop or due) and (reason := self._read(member)):
                return reason
            if member.ended:
                return None
            due = self.group.leads and member.seconds - member.saved_seconds > population.SAVE_SECONDS
            stop, due = self.group.any(stopping.asked(), due)
            if (stop or due) and self.unread:
                continue  # they are read first: they may say that it has diverged, and belong to what is saved
            if stop or due:
                self._save(member)
            if stop:
                raise stopping.Stopped
            self._step(member)

    def _step(self, member: Member) -> None:
        mean, loss = self.spread.descend(self.batches.at([member])[0])
        member.update()
        self.unread.append((member.step, mean, loss))
        member.step += 1

    def _read(self, member: Member) -> str | None:
        """Take the losses of the last steps from the device and tell them; why it has diverged, if it has."""
        steps, means, losses = zip(*self.unread, strict=True)
        self.unread.clear()
        rows = zip(steps, torch.stack(means).tolist(), torch.stack(losses).tolist(), strict=True)
        self._charge(member)
        for step, mean, loss in rows:
            member.last_loss = loss
            if step == 0:
                member.first_loss = mean
            if on_curve(member.spec, step, loss):
                values = record(member, step, loss)
                for observer in self.watch.observers:
                    observer.record(values)
            if not math.isfinite(loss):
                member.step = step
                return f"training loss {loss} at step {step}"
        return None

    def validation(self) -> tuple[float, float]:
        """Mean loss over the validation set and its standard error, nats a token: of all sequences, each seen once."""
        each = min(VALIDATION_SEQUENCES, self.parallel.micro_sequences or VALIDATION_SEQUENCES)
        tokens, context = self.spec.data.validation_tokens, self.spec.shape.context
        count, size = tokens // context, self.group.size
        losses = torch.zeros(count, dtype=torch.float64)
        batches = validation_batches(self.batches.corpus, tokens=tokens, sequences=each * size, context=context)
        for at, whole in enumerate(batches):
            batch, first = torch.from_numpy(whole), at * each * size
            mine = batch[self.group.rank :: size]
            # Where the last ones do not go around, a process repeats one, because all have to take part.
            found = self.spread.losses((mine if len(mine) else batch[:1]).to(self.device)).cpu()
            if len(mine):
                losses[first : first + len(batch)][self.group.rank :: size] = found
        return mean_and_error(self.group.total(losses))

    def _charge(self, member: Member) -> None:
        clock, self.clock = self.clock, time.perf_counter()
        member.seconds += self.clock - clock
        member.joules += self.meter.since(torch.get_num_threads())

    def _add_up_joules(self, member: Member) -> None:
        """What all have drawn, on rank 0's account."""
        total = self.group.total(torch.tensor(member.joules, dtype=torch.float64)).item()
        member.joules = total if self.group.leads else 0.0

    def _signed(self, trial: Trial) -> Trial:
        """With how it was spread."""
        told = {key: str(value) for key, value in asdict(self.parallel).items() if key not in ("name", "max_restarts")}
        provenance = {**trial.provenance, "parallel": self.parallel.name, **told}
        return replace(trial, provenance=provenance)

    @property
    def _sharded(self) -> Path | None:
        path = self.watch.checkpoint
        return None if path is None else path.with_name(ordinary.SHARDED)

    def _save(self, member: Member) -> None:
        if self._sharded is not None:
            self._add_up_joules(member)
            checkpoint.save(self._sharded, member, self.group)
            member.saved_seconds = member.seconds

    def _begun(self) -> Member:
        """The run where it was left, in any number of processes; else at its start."""
        network, state = self.spread.network, None
        if self._sharded is not None:
            own = network.state_dict()
            place = partial(self._place, own)
            state = checkpoint.load(self._sharded, self.spec, self.group, place) or self._ordinary(own)
        if state is None:
            return Member(index=0, spec=self.spec, network=network)
        so_far: dict[str, Any] = {name: state[name] for name in SO_FAR}
        if not self.group.leads:
            so_far["joules"] = 0.0  # of all until then, which rank 0 has
        return Member(
            index=0, spec=self.spec, network=network, pending=state["optimizer"], saved_seconds=state["seconds"],
            **so_far,
        )  # fmt: skip

    def _place(self, own: Mapping[str, Tensor], name: str, size: torch.Size, dtype: torch.dtype) -> Tensor:
        """Where a tensor of a checkpoint goes: into the network, or beside what it belongs to, cut as that is."""
        kind, _, name = name.partition(".")
        if kind == "network":
            return own[name]
        parameter = own[name.rpartition(".")[0]]
        if isinstance(parameter, DTensor) and size == parameter.shape:
            return torch.zeros_like(parameter, dtype=dtype)
        return torch.zeros(size, dtype=dtype, device=self.device)

    def _ordinary(self, own: Mapping[str, Tensor]) -> State | None:
        """From the checkpoint of a run in one process; each takes its part."""
        path = self.watch.checkpoint
        assert path is not None
        found = ordinary.load(path, self.spec, "cpu") if self.group.leads else None  # sets aside what is torn
        if not self.group.any(found is not None)[0]:
            return None
        found = found or ordinary.load(path, self.spec, "cpu")
        assert found is not None
        for name, full in found["network"].items():
            put(own[name], full)
        return {**found, "optimizer": {
            name: {key: self._own(own[name], value) for key, value in kept.items()}
            for name, kept in found["optimizer"].items()
        }}  # fmt: skip

    def _own(self, parameter: Tensor, kept: Any) -> Any:
        if not isinstance(kept, Tensor):
            return kept
        return like(parameter, kept) if kept.shape == parameter.shape else kept.to(self.device)
