"""What the networks are made of: layers whose forward constants are plain numbers, and how a network is filled.

Nothing is attached to a tensor, so a deepcopy, a state_dict or a wrapper changes nothing. Each operation treats leading
dimensions alike, none mixes sequences.

A network is an ordinary module, or a stack of M members of it (`networks.stacked`): then each parameter has a leading
dimension M, each input too, and a constant that differs between members is a tensor [M]. The layers tell one from the
other by their parameters' dimensions; nothing here reduces over M.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scalelab.networks.members import Constant, across, looked_up, product, rms_normed, times
from scalelab.parametrizations.table import Role
from scalelab.resolve import Setting
from scalelab.spec import RunSpec

STREAM, LOGITS = "residual stream", "logits"  # labels of `Proxy.observed` that every network has
Put = Callable[[Tensor, Tensor], object]


class Proxy(nn.Module):
    """A network that scalelab trains: token ids [B, T] → logits [B, T, V], and the loss on ids [B, T+1].

    A stack of M members takes ids [M, B, T], and has M losses. `auxiliary` is what a forward pass adds to the training
    loss beside the cross-entropy (load balancing), and never to the validation loss.
    """

    labels: ClassVar[dict[str, str]] = {}  # end of a module's name → the label under which its output is checked
    constants: ClassVar[tuple[str, ...]] = ("z_loss",)  # attributes that may differ between members of a stack
    z_loss: Constant

    def __init__(self, spec: RunSpec) -> None:
        super().__init__()
        self.z_loss = spec.hparams.z_loss

    def tuned(self, spec: RunSpec) -> None:
        """What the multipliers of single tensors leave to the network, after it is filled."""

    def part_weight(self, parts: int) -> float:
        """What the gradients of each of so many equal parts of a batch count in those of the batch."""
        return 1 / parts

    def targets(self, tokens_BT: Tensor) -> Tensor:
        """What the logits of ids [B, T+1] are held against: each next token."""
        return tokens_BT[..., 1:]

    def auxiliary(self) -> Tensor | None:
        """What the last forward pass adds to the training loss, None where there is nothing."""
        return None

    def observed(self) -> dict[str, list[nn.Module]]:
        """The modules whose outputs the checks look at, by label, in forward order.

        `labels` says which, by the end of their names. Those of the same label in all blocks are compared together, so
        that networks of any depth compare. Every network has its blocks ("residual stream") and its logits.
        """
        labels = {**self.labels, "readout": LOGITS}
        found: dict[str, list[nn.Module]] = {}
        for name, module in self.named_modules():
            for ending, label in labels.items():
                if f".{name}".endswith(f".{ending}"):
                    found.setdefault(label, []).append(module)
            if re.fullmatch(r"blocks\.\d+", name):
                found.setdefault(STREAM, []).append(module)
        return found

    def loss(self, tokens_BT: Tensor) -> Tensor:
        """The training loss: mean cross-entropy, nats, and the auxiliary terms; one, or [M] of a stack."""
        return self.terms(tokens_BT)[1]

    def terms(self, tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy, nats, and the training loss, which has the auxiliary terms beside it."""
        logits_BTV = self.logits(tokens_BT)
        mean = loss = self._nats(logits_BTV, tokens_BT).flatten(-2).mean(dim=-1)
        if isinstance(self.z_loss, Tensor) or self.z_loss:
            square_BT = logits_BTV.logsumexp(dim=-1).square()
            loss = loss + times(square_BT.flatten(-2).mean(dim=-1), self.z_loss)
        auxiliary = self.auxiliary()
        return mean, loss if auxiliary is None else loss + auxiliary

    def logits(self, tokens_BT: Tensor) -> Tensor:
        """What the probabilities of each next token of ids [B, T+1] are a softmax of."""
        logits_BTV: Tensor = self(tokens_BT[..., :-1])
        return logits_BTV

    def losses(self, tokens_BT: Tensor) -> Tensor:
        """Mean cross-entropy of each sequence [B], or [M, B] of a stack, nats, in float64."""
        return self._nats(self.logits(tokens_BT), tokens_BT).double().mean(dim=-1)

    def _nats(self, logits_BTV: Tensor, tokens_BT: Tensor) -> Tensor:
        """Cross-entropy of each target, of the shape of `targets`."""
        targets = self.targets(tokens_BT)
        each = F.cross_entropy(logits_BTV.flatten(0, -2), targets.flatten(), reduction="none")
        return each.view(targets.shape)


class Multiplied(nn.Module):
    """A module with a `weight` and the forward multiplier that a parametrization gives it."""

    constants: ClassVar[tuple[str, ...]] = ("multiplier",)
    multiplier: Constant = 1.0


class Linear(Multiplied):
    """y = multiplier · x Wᵀ + bias; the bias is not multiplied, as in mup's MuReadout."""

    def __init__(self, fan_in: int, fan_out: int, *, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(fan_out, fan_in))
        self.bias = nn.Parameter(torch.empty(fan_out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return product(times(x, self.multiplier), self.weight, self.bias)


class Embedding(Multiplied):
    """y = multiplier · W[id]."""

    def __init__(self, entries: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(entries, width))

    def forward(self, ids: Tensor) -> Tensor:
        return times(looked_up(ids, self.weight), self.multiplier)


class RMSNorm(nn.Module):
    """x / rms(x), times a learned gain: a "vector" of `length`, one "scalar", or "none"."""

    def __init__(self, length: int, *, gain: str) -> None:
        super().__init__()
        self.gain = None if gain == "none" else nn.Parameter(torch.empty(1 if gain == "scalar" else length))

    def forward(self, x: Tensor) -> Tensor:
        normed = rms_normed(x)
        return normed if self.gain is None else normed * across(self.gain, x)


def fill(network: nn.Module, resolved: Iterable[Setting], spec: RunSpec, put: Put = Tensor.copy_) -> None:
    """Initialise a network and set its multipliers; each parameter is claimed by the inventory once, or it is a bug."""
    claimed = {setting.tensor.name: setting for setting in resolved}
    parameters = dict(network.named_parameters())
    if parameters.keys() != claimed.keys():
        raise RuntimeError(f"roles do not cover the parameters: {sorted(parameters.keys() ^ claimed.keys())}")
    for name, parameter in parameters.items():
        setting = claimed[name]
        if tuple(parameter.shape) != setting.tensor.stored:
            raise RuntimeError(f"{name} is {tuple(parameter.shape)}, its role says {setting.tensor}")
        initialise(parameter, setting, spec.seed, put)
        module = network.get_submodule(name.rpartition(".")[0])
        if isinstance(module, Multiplied) and name.endswith(".weight"):
            module.multiplier = setting.multiplier
        elif setting.multiplier != 1.0:
            raise RuntimeError(f"{name} has no place for its multiplier {setting.multiplier}")


@torch.no_grad()
def initialise(parameter: Tensor, setting: Setting, seed: int, put: Put = Tensor.copy_) -> None:
    """Fill one parameter: N(0, 1) from a generator of (seed, name), times its std.

    A draw depends on nothing else, so the same tensor gets the same draw under every parametrization, and its parts the
    same on whichever processes they are: `put` writes all of a tensor to what is there of a parameter.
    """
    if setting.tensor.role in (Role.GAIN, Role.SCALAR):
        parameter.fill_(1.0)
    elif setting.init_std == 0.0:
        parameter.zero_()
    else:
        digest = hashlib.sha256(f"{seed}/{setting.tensor.name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        put(parameter, torch.randn(parameter.shape, generator=generator).mul_(setting.init_std))
