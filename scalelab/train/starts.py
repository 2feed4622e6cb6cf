"""Where the runs of a loop begin: from their checkpoints, from the start, or where they branch off another."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scalelab.spec import RunSpec
from scalelab.train import checkpoint
from scalelab.train.member import Member, State, on_curve
from scalelab.train.watch import Watch
from scalelab.trunks import branches, shared_steps


@dataclass(frozen=True)
class Start:
    """A run that waits for its place: the state that it goes on from, and what was told of it until then."""

    index: int
    state: State | None = None
    records: tuple[Mapping[str, Any], ...] = ()


@dataclass(kw_only=True)
class Starts:
    """The runs that are not in training yet: in line, or on the way in a trunk that they branch off."""

    specs: Mapping[int, RunSpec]
    watches: Mapping[int, Watch]
    device: str
    line: deque[Start] = field(default_factory=deque)
    forks: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # by trunk: after which step, who begins

    def __post_init__(self) -> None:
        found = {index: self.saved(index) for index in self.specs}
        on_the_way = set()
        for index, branch in branches(self.specs).items():
            trunk, pruner = found[branch.trunk].state, self.watches[index].pruner
            if pruner is not None and any(rung < branch.steps for rung in pruner.rungs):
                continue  # on the way nobody would ask for it
            if found[index].state is None and (trunk is None or trunk["step"] <= branch.steps):
                self.forks.setdefault(branch.trunk, []).append((branch.steps, index))
                on_the_way.add(index)
        self.line.extend(found[index] for index in self.specs if index not in on_the_way)

    def saved(self, index: int) -> Start:
        """A run from its own checkpoint, from that of a run that does the same until there, or from the start."""
        watch, spec = self.watches[index], self.specs[index]
        own = self._own(watch.checkpoint, spec) if watch.checkpoint else None
        if own is not None or (other := watch.begins) is None:
            return Start(index, own)
        state = checkpoint.load(other.checkpoint, other.spec, self.device)
        if state is None or state["step"] > shared_steps(spec, other.spec):
            return Start(index)
        told = tuple(values for values in other.records if values["step"] < state["step"])
        # Whoever stopped the other one there has let this one go on.
        return Start(index, {**_branched(state, spec), "rung": state["step"]}, told)

    def _own(self, path: Path, spec: RunSpec) -> State | None:
        """What was saved of a run, also by several processes."""
        if (sharded := path.with_name(checkpoint.SHARDED)).exists():
            from scalelab.train.spread.checkpoint import whole  # of little use to most

            return whole(sharded, spec, self.device)
        return checkpoint.load(path, spec, self.device)

    def due(self, member: Member) -> bool:
        """Whether somebody branches off here."""
        return any(step == member.step for step, _ in self.forks.get(member.index, ()))

    def fork(self, member: Member) -> None:
        """Put those who branch off here first in line, with copies of the state; saved, they go on alone."""
        all_of_it = self.forks.get(member.index, [])
        here = [index for step, index in all_of_it if step == member.step]
        self.forks[member.index] = [fork for fork in all_of_it if fork[1] not in here]
        for index in here:
            state = _branched(member.state(), self.specs[index])
            if path := self.watches[index].checkpoint:
                checkpoint.save(path, state)
            self.line.appendleft(Start(index, state, self.told(member, index)))

    def told(self, trunk: Member, index: int) -> tuple[Mapping[str, Any], ...]:
        """What the curve of a branch has of its trunk's: the steps of its own, without the trunk's rungs."""
        spec = self.specs[index]
        rows = (values for values in trunk.records if on_curve(spec, values["step"], values["loss_nats"]))
        return tuple(values for values in rows if "validation_loss_nats" not in values)

    def abandoned(self, trunk: int) -> list[int]:
        """Those who would have branched off a trunk that has ended before."""
        return [index for _, index in self.forks.pop(trunk, ())]

    def again(self, indices: list[int]) -> None:
        """Put runs first in line once more, from what is saved of them."""
        self.line.extendleft(self.saved(index) for index in reversed(indices))

    @property
    def waiting(self) -> set[int]:
        """All who have not been taken from the line."""
        return {start.index for start in self.line} | {i for forks in self.forks.values() for _, i in forks}


def _branched(state: State, spec: RunSpec) -> dict[str, Any]:
    """The state of one run as that of another, which did the same until here and has paid for nothing yet."""
    own = {"fingerprint": spec.fingerprint, "trunk": state["fingerprint"], "trunk_steps": state["step"]}
    return {**state, **own, "seconds": 0.0, "joules": 0.0}
