"""How one run is spread: over processes, over backward passes. No part of its identity: results differ by rounding."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scalelab.errors import Refused, unknown
from scalelab.spec import RunSpec
from scalelab.values import integer

STRATEGIES = ("none", "ddp", "fsdp")
ELEMENTWISE = ("adamw", "sgd", "lion", "adam_atan2")  # optimizers that a part of a tensor is enough for


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """The group `parallel` of the configuration; `processes` are all of the run's, over all machines.

    `micro_sequences` are the sequences of one process in one backward pass, None for all of its part of a batch.
    `max_restarts` is how often all are started again when one has died.
    """

    name: str = "none"
    processes: int = 1
    micro_sequences: int | None = None
    activation_checkpointing: bool = False
    max_restarts: int = 0

    def __post_init__(self) -> None:
        if self.name not in STRATEGIES:
            raise unknown("parallel", self.name, STRATEGIES)
        for key, least in (("processes", 1), ("micro_sequences", 1), ("max_restarts", 0)):
            value = getattr(self, key)
            if value is not None and value < least:
                raise Refused(f"parallel.{key}={value}: accepted is a whole number ≥ {least}")
        if not isinstance(self.activation_checkpointing, bool):
            raise Refused(
                f"parallel.activation_checkpointing={self.activation_checkpointing!r}: accepted are true, false"
            )
        if self.name == "none" and self.processes > 1:
            raise Refused(
                f"parallel=none with {self.processes} processes, which would each train all of it: choose parallel=ddp"
                " or parallel=fsdp"
            )

    @property
    def spreads(self) -> bool:
        """Whether a run is trained by itself, in several processes or passes, and not in a population."""
        return self.processes > 1 or self.micro_sequences is not None or self.activation_checkpointing

    @property
    def copies(self) -> float:
        """How often one machine has the weights, gradients and moments of a run; less than 1 for a part of them."""
        here = int(os.environ["LOCAL_WORLD_SIZE"]) if by_torchrun() else self.processes
        return here / self.processes if self.name == "fsdp" else float(here)

    def part(self, spec: RunSpec) -> int:
        """Sequences of a step that are one process's."""
        return spec.sequences // self.processes

    def passes(self, spec: RunSpec) -> int:
        """Backward passes of one process in a step."""
        return self.part(spec) // (self.micro_sequences or self.part(spec))


USUAL = Parallel()


def by_torchrun() -> bool:
    """Whether this process is one of several that torchrun has started."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def restarted() -> bool:
    """Whether torchrun has started it again, because a process had died."""
    return by_torchrun() and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def parallel_of(group: Any) -> Parallel:
    """The setting that a configuration states; started by torchrun, the processes are those that it has started."""
    if not isinstance(group, Mapping):
        raise Refused(f"parallel={group!r}: accepted are {', '.join(STRATEGIES)}, and keys below parallel")
    accepted = tuple(Parallel.__dataclass_fields__)
    if odd := sorted(set(group) - set(accepted)):
        raise Refused(f"unknown key parallel.{odd[0]}: accepted are {', '.join(accepted)}")
    values: dict[str, Any] = {**group, "name": str(group["name"])}
    for key in ("processes", "micro_sequences", "max_restarts"):
        if key in values and (values[key] is not None or key != "micro_sequences"):
            values[key] = integer(f"parallel.{key}", values[key])
    if by_torchrun():
        values["processes"] = int(os.environ["WORLD_SIZE"])
    return Parallel(**values)


def check(parallel: Parallel, spec: RunSpec) -> None:
    """Refuse a run that cannot be spread so with the results of one process."""
    if not parallel.spreads:
        return
    if spec.command is not None:
        raise Refused(f"parallel={parallel.name} with trainer=command, which starts what it needs: accepted is"
                      " parallel=none, and the command's own arguments")  # fmt: skip
    per_process, micro = divmod(spec.sequences, parallel.processes), parallel.micro_sequences
    if per_process[1]:
        fits = _divisors(spec.sequences)
        raise Refused(
            f"{spec.sequences} sequences a step (batch_tokens/context) on {parallel.processes} processes: accepted are"
            f" processes that divide them: {fits}"
        )
    if micro is not None and per_process[0] % micro:
        raise Refused(
            f"parallel.micro_sequences={micro} of {per_process[0]} sequences per process and step"
            f" ({spec.sequences} on {parallel.processes}): accepted is what divides them: {_divisors(per_process[0])}"
        )
    if parallel.name == "fsdp" and spec.optimizer not in ELEMENTWISE:
        raise Refused(
            f"optimizer={spec.optimizer} with parallel=fsdp, which cuts the matrices that it needs whole: choose"
            f" parallel=ddp, or one of {', '.join(ELEMENTWISE)}"
        )
    if spec.model == "moe" and spec.hparams.balance_loss > 0 and parallel.passes(spec) > 1:
        raise Refused(
            f"model=moe with parallel.micro_sequences={micro}: the balance loss is one of the whole batch, not of parts"
            f" of it; choose micro_sequences={parallel.part(spec)}, more processes, or balance_loss=0"
        )


def _divisors(number: int) -> str:
    found = [str(each) for each in range(1, number + 1) if number % each == 0]
    return ", ".join(found if len(found) <= 8 else [*found[:4], "…", *found[-3:]])
