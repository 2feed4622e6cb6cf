"""One run of a population: its network, its optimizers, how far it is, and all of that as an ordinary state dict."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from scalelab.networks import build
from scalelab.optim import hand_over, optimizers, set_lr
from scalelab.spec import RunSpec
from scalelab.train.broadcast import BroadcastAdamW, OptimizerState

State = Mapping[str, Any]
SO_FAR = ("step", "seconds", "joules", "rung", "trunk", "trunk_steps", "first_loss", "last_loss")  # in a checkpoint
LOG_POINTS = 100  # records of a curve, at most one a step


@dataclass(kw_only=True)
class Member:
    """A run in training. `index` is its place among the specs that were given, `step` the next step that it takes.

    `seconds` and `joules` are its share of what its worker has spent. `first_loss` is the cross-entropy before the
    first update, nats; `last_loss` the training loss of the last step.
    """

    index: int
    spec: RunSpec
    network: nn.Module
    step: int = 0
    seconds: float = 0.0
    joules: float = 0.0
    first_loss: float = math.nan
    last_loss: float = math.nan
    saved_seconds: float = 0.0  # `seconds` at the last checkpoint
    rung: int = 0  # the last step after which a pruner was asked
    trunk: str | None = None  # the run that it branched off, after so many steps
    trunk_steps: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)
    optims: list[torch.optim.Optimizer] = field(default_factory=list)
    shared: tuple[BroadcastAdamW, int] | None = None  # in place of its own: one of all members, and its place in it
    pending: OptimizerState | None = None  # what an optimizer of either kind goes on from, until it is there

    def __post_init__(self) -> None:
        self.parameters = list(self.network.parameters())  # to walk the modules at each step takes longer than a clip

    @property
    def ended(self) -> bool:
        return self.step >= self.spec.horizon.steps

    def step_alone(self) -> None:
        """Have optimizers of its own; what they need comes along."""
        if self.optims:
            return
        state = self.optimizer_state()
        handed = self.spec.kind.then is not None and self.step > self.spec.horizon.decay_start
        self.optims, self.shared, self.pending = optimizers(self.network, self.spec, then=handed), None, None
        named = dict(self.network.named_parameters())
        for optim in self.optims:
            for group in optim.param_groups:
                for name in group["names"]:
                    if name in state:
                        optim.state[named[name]] = {key: _copy(value) for key, value in state[name].items()}

    def join(self, optimizer: BroadcastAdamW, place: int) -> None:
        """Be stepped by an optimizer of all members from now on; what it needs comes along."""
        if state := self.optimizer_state():
            optimizer.load(place, state)
        self.shared, self.pending = (optimizer, place), None

    def update(self) -> None:
        """One step of its own optimizers on the gradients that are there."""
        if self.step == self.spec.horizon.decay_start and self.spec.kind.then:
            before, self.optims = self.optims, optimizers(self.network, self.spec, then=True)
            hand_over(before, self.optims)
        if self.spec.hparams.clip_norm is not None:
            self._clip(self.spec.hparams.clip_norm)
        set_lr(self.optims, self.spec.horizon.lr_factor(self.step))
        try:
            for optim in self.optims:
                optim.step()
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # factors that are not finite: it has diverged
            for parameter in self.network.parameters():
                parameter.data.fill_(math.nan)

    def _clip(self, most: float) -> None:
        """`torch.nn.utils.clip_grad_norm_`, without the product where it is one with 1."""
        grads = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        if type(norm) is not Tensor:  # a DTensor, of parts on several processes
            norm = cast(Any, norm).full_tensor()
        if not (norm + 1e-6) <= most:  # a NaN goes on into the gradients, as there
            torch.nn.utils.clip_grads_with_norm_(self.parameters, most, norm)

    def state(self) -> dict[str, Any]:
        """All that a run needs to go on alone: `network` is the state dict of the ordinary network."""
        return {
            "fingerprint": self.spec.fingerprint,
            **{name: getattr(self, name) for name in SO_FAR},
            "network": {name: value.detach().clone() for name, value in self.network.state_dict().items()},
            "optimizer": self.optimizer_state(),
        }

    def optimizer_state(self, *, copies: bool = True) -> OptimizerState:
        """What the optimizers keep, by the names of the network's parameters; nothing before the first step."""
        if self.shared is not None:
            return self.shared[0].state(self.shared[1])
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.network.named_parameters()}
        found = {
            names[parameter]: {key: _copy(value) if copies else value for key, value in state.items()}
            for optim in self.optims
            for parameter, state in optim.state.items()
        }
        return found or self.pending or {}


def on_curve(spec: RunSpec, step: int, loss: float) -> bool:
    """Whether the curve of a run has that step: about a hundred, the last, and one whose loss is not finite."""
    steps = spec.horizon.steps
    return step % max(1, steps // LOG_POINTS) == 0 or step == steps - 1 or not math.isfinite(loss)


def record(member: Member, step: int, loss: float) -> dict[str, Any]:
    """What is told of a step: tokens are those seen before its update, `lr` is the base's."""
    horizon = member.spec.horizon
    return {
        "step": step,
        "tokens": step * horizon.batch_tokens,
        "loss_nats": loss,
        "lr": member.spec.hparams.lr * horizon.lr_factor(min(step, horizon.steps - 1)),
        "seconds": member.seconds,
    }


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def begun(index: int, spec: RunSpec, device: str, state: State | None = None) -> Member:
    """A run at its start, or where `state` left it."""
    network = build(spec, device)
    if state is None:
        return Member(index=index, spec=spec, network=network)
    network.load_state_dict(state["network"])
    so_far = {name: state[name] for name in SO_FAR}
    return Member(
        index=index, spec=spec, network=network, pending=state["optimizer"], saved_seconds=state["seconds"], **so_far
    )
