"""Exact FLOPs of a model, module by module, from what it says its parameters are: no network is built.

Products are counted: every matrix, attention's scores and values, the mixing of experts' outputs; a multiply-add is 2.
Norms, activations, softmax, rotary positions, biases, the loss and the optimizer are not (nor by torch's
`FlopCounterMode`, which the tests hold this against), and a table that is looked up costs nothing.

The backward pass has two products for each of the forward pass: the gradient of the input and that of the weight.
Layers that read the pixels of an image have no gradient of their input; in a text model the first layers have one, on
the way to the embedding table.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from scalelab.models.registry import MODELS, Modelled, inventory
from scalelab.models.tensors import Tensor
from scalelab.parametrizations.table import Role

Kind = Literal["linear", "convolution", "attention", "router", "experts", "mixing"]
Convention = Literal["half", "full"]

KINDS: dict[Role, Kind] = {Role.ROUTER: "router", Role.EXPERT: "experts"}
OUTPUT = ".output.weight"  # of attention, and of nothing else: the last of its matrices


@dataclass(frozen=True, kw_only=True)
class ModuleFlops:
    """FLOPs a token of one module of a network, exact; of an image model a token is a pixel.

    `name` is the module's own in the network; "attention" are the scores and values of that module beside its matrices,
    "mixing" the weighted sum of the experts' outputs. `forward`, `grad_input` and `grad_weight` are those of the full
    square of attention. `pairs` is the share of the square's (query, key) pairs that have a part in the result: ½ for
    causal attention (½·T² of T², the usual convention; the triangle with its diagonal is ½·T·(T+1)), otherwise 1. A
    fused kernel computes between the two: whole tiles along the diagonal. Nothing is counted twice: a kernel that
    computes the scores again in the backward pass does half a forward pass of attention more than is counted here.
    """

    name: str
    kind: Kind
    forward: Fraction
    grad_input: Fraction
    grad_weight: Fraction
    pairs: Fraction = Fraction(1)

    @property
    def training(self) -> Fraction:
        """Forward and backward."""
        return self.forward + self.grad_input + self.grad_weight

    @property
    def half(self) -> "ModuleFlops":
        """The same with only the pairs that count, which is what `FlopCount.six_n_attention` counts."""
        return ModuleFlops(
            name=self.name, kind=self.kind, forward=self.forward * self.pairs, grad_input=self.grad_input * self.pairs,
            grad_weight=self.grad_weight * self.pairs,
        )  # fmt: skip


def module_flops(run: Modelled) -> tuple[ModuleFlops, ...]:
    """FLOPs of every module of a run's model that multiplies matrices, in the order of the forward pass.

    Raises:
        Refused: on an unknown model, or an architecture that it does not have.
    """
    found: list[ModuleFlops] = []
    used = [tensor for tensor in inventory(run) if tensor.fan_in is not None and tensor.uses]  # not merely looked up
    for tensor in sorted(used, key=lambda tensor: tensor.role is Role.TIED):  # a tied table is multiplied with last
        module = "readout" if tensor.role is Role.TIED else tensor.name.rpartition(".")[0]
        first = tensor.role is Role.EMBEDDING  # of an image: text looks its own up
        if tensor.name.endswith(OUTPUT):
            found.append(_attention(run, tensor))
        found.append(_product(module, _kind(tensor), 2 * tensor.numel * tensor.uses, first=first))
        if tensor.role is Role.EXPERT and tensor.writes_residual:
            # Weights [1, K] times outputs [K, D]: neither is a parameter, both have a gradient.
            mixture = module.rpartition(".experts")[0]
            found.append(_product(mixture, "mixing", Fraction(2 * run.shape.top_k * run.shape.width)))
    return tuple(found)


def forward_flops(modules: Iterable[ModuleFlops], *, attention: Convention = "half") -> Fraction:
    """FLOPs a token of a forward pass (validation, a checkpoint's evaluation)."""
    return sum((each.half if attention == "half" else each).forward for each in modules) + Fraction(0)


def training_flops(modules: Iterable[ModuleFlops], *, attention: Convention = "half") -> Fraction:
    """FLOPs a token of a training step: forward and backward, the optimizer not counted."""
    return sum((each.half if attention == "half" else each).training for each in modules) + Fraction(0)


def _kind(tensor: Tensor) -> Kind:
    return KINDS.get(tensor.role, "convolution" if len(tensor.stored) == 4 else "linear")


def _product(module: str, kind: Kind, forward: Fraction, *, first: bool = False) -> ModuleFlops:
    return ModuleFlops(
        name=module, kind=kind, forward=forward, grad_input=Fraction(0) if first else forward, grad_weight=forward
    )


def _attention(run: Modelled, output: Tensor) -> ModuleFlops:
    """Scores QKᵀ and values PV over all pairs of a sequence's places, each 2·width a pair whatever the heads."""
    places = output.uses * run.shape.context  # tokens of a text, patches of an image
    forward = 4 * run.shape.width * places**2 / run.shape.context
    return ModuleFlops(
        name=output.name.removesuffix(OUTPUT), kind="attention", forward=forward,
        grad_input=2 * forward, grad_weight=Fraction(0),  # of Q, K, V, the probabilities: each as large as the scores
        pairs=MODELS[run.model].pairs * run.shape.context**2 / places**2,
    )  # fmt: skip
