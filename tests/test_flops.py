"""FLOPs by module: counted from the inventory, counted by torch while the real networks run."""

from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scalelab.errors import Refused
from scalelab.models import (
    MODELS,
    ModuleFlops,
    count_flops_per_token,
    forward_flops,
    inventory,
    module_flops,
    training_flops,
)
from scalelab.networks import build
from scalelab.parametrizations import table
from scalelab.parametrizations.table import Role
from scalelab.shape import Architecture, Shape
from scalelab.spec import DataSpec, Horizon, Hparams, RunSpec
from tests.conftest import make_shape

SEQUENCES = 4


def spec_of(model: str, architecture: Architecture, *, parametrization: str = "mup", **sizes: int) -> RunSpec:
    """A run of three blocks; of images 6×6 pixels, which are 3×3 patches and a second stage of 3×3 places."""
    sizes = {**({"vocab": 17, "context": 36} if MODELS[model].images else {}), **sizes}
    shape = make_shape(32, 3, **{"heads": 4, "kv_heads": 4, "ffn": 88, **sizes})
    corpus = DataSpec(name="made up", sha256="0", vocab=shape.vocab, bytes_per_token=None, validation_tokens=64)
    return RunSpec(
        parametrization=parametrization, optimizer="adamw", model=model, architecture=architecture, shape=shape,
        base=Shape.unit() if table(parametrization).unit_scaled else shape, hparams=Hparams(lr=0.01, weight_decay=0.1),
        horizon=Horizon(tokens=shape.context * SEQUENCES, batch_tokens=shape.context * SEQUENCES, schedule="linear"),
        data=corpus, seed=0,
    )  # fmt: skip


UNIT = Architecture(norm_gains="none")
CASES = {
    "swiglu": spec_of("transformer", Architecture()),
    "biases": spec_of("transformer", Architecture(mlp="gelu", biases=True, positions="learned")),
    "tied": spec_of("transformer", Architecture(mlp="relu", tied_head=True, qk_norm=True)),
    "grouped": spec_of("transformer", Architecture(), kv_heads=1),
    "long": spec_of("transformer", Architecture(), context=48, vocab=40),
    "u-mup": spec_of("transformer", UNIT, parametrization="u_mup"),
    "moe": spec_of("moe", Architecture(), experts=8, top_k=2),
    "moe, gelu": spec_of("moe", Architecture(mlp="gelu", tied_head=True), experts=4, top_k=3, kv_heads=2),
    "one expert": spec_of("moe", Architecture()),
    "mlp": spec_of("mlp", Architecture(biases=True)),
    "resnet": spec_of("resnet", Architecture(biases=True)),
    "resnet, odd side": spec_of("resnet", Architecture(mlp="relu"), context=49),
    "vit": spec_of("vit", Architecture(), kv_heads=2),
    "vit, learned": spec_of("vit", Architecture(mlp="gelu", biases=True, positions="learned")),
}
cases = pytest.mark.parametrize("spec", CASES.values(), ids=CASES)


def tokens(spec: RunSpec) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(spec.shape.vocab, (SEQUENCES, spec.shape.context + 1), generator=generator)


def by_module(counter: FlopCounterMode, network: torch.nn.Module) -> dict[str, int]:
    """What torch counted in each module itself, without its parts."""
    counted = counter.get_flop_counts()
    prefix = f"{type(network).__name__}."
    whole = {name.removeprefix(prefix): sum(ops.values()) for name, ops in counted.items() if name.startswith(prefix)}
    parts: Counter[str] = Counter()
    for name, flops in whole.items():
        parts[name.rpartition(".")[0]] += flops
    own = {name: flops - parts[name] for name, flops in whole.items()}
    return {name: flops for name, flops in own.items() if flops}


def ours(modules: Iterable[ModuleFlops], spec: RunSpec) -> dict[str, Fraction]:
    """Our forward FLOPs of the same batch."""
    found: Counter[str] = Counter()
    for each in modules:
        found[each.name] += each.forward * spec.shape.context * SEQUENCES  # type: ignore[assignment]
    return dict(found)  # type: ignore[arg-type]


@cases
def test_the_forward_pass_is_what_torch_counts_in_each_module(spec: RunSpec) -> None:
    # The plain kernel: of the CPU's fused one torch counts nothing, see below.
    network = build(spec)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network.losses(tokens(spec))
    assert by_module(counter, network) == ours(module_flops(spec), spec)
    whole = forward_flops(module_flops(spec), attention="full") * spec.shape.context * SEQUENCES
    assert counter.get_total_flops() == whole


@cases
def test_a_training_step_is_what_torch_counts(spec: RunSpec) -> None:
    network = build(spec)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network.loss(tokens(spec)).backward()
    whole = training_flops(module_flops(spec), attention="full") * spec.shape.context * SEQUENCES
    assert counter.get_total_flops() == whole


@cases
def test_modules_come_in_the_order_of_the_forward_pass(spec: RunSpec) -> None:
    network, called = build(spec), []
    # Not the gate, which is beside `up`: either may come first.
    ours = [each.name for each in module_flops(spec) if each.kind not in ("attention", "mixing")]
    ours = [name for name in ours if not name.endswith(".gate")]
    for name in ours:
        network.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
    network.losses(tokens(spec))
    assert called == ours


@cases
def test_the_cost_of_a_run_counts_the_same_products_and_each_difference_has_a_reason(spec: RunSpec) -> None:
    modules, tensors = module_flops(spec), inventory(spec)
    vectors = sum(6 * each.numel * each.uses for each in tensors if each.fan_in is None)
    # 6N takes each matrix for one with a gradient of its input; who reads pixels has none.
    pixels = sum(2 * each.numel * each.uses for each in tensors if each.role is Role.EMBEDDING and each.uses)
    mixing = sum(each.training for each in modules if each.kind == "mixing")
    exact = count_flops_per_token(spec).six_n_attention - vectors - pixels + mixing
    assert abs(training_flops(modules) - exact) <= 1  # six_n_attention is a whole number a token


def test_half_of_the_square_is_causal_attention_alone() -> None:
    (text,) = {each.pairs for each in module_flops(CASES["swiglu"]) if each.kind == "attention"}
    (image,) = {each.pairs for each in module_flops(CASES["vit"]) if each.kind == "attention"}
    assert (text, image) == (Fraction(1, 2), 1)
    modules = module_flops(CASES["long"])
    attention = 3 * 4 * 48 * 32  # three blocks, scores and values of 48 keys in 32 channels
    assert forward_flops(modules, attention="full") - forward_flops(modules) == attention / 2
    assert training_flops(modules, attention="full") - training_flops(modules) == 3 * attention / 2


def test_a_module_by_hand() -> None:
    found = {each.name: each for each in module_flops(CASES["resnet"]) if each.kind == "convolution"}
    # 9 of the 36 places, 9 pixels of 64 channels each, to 176; a multiply-add is 2
    assert found["blocks.2.branch.up"].forward == Fraction(9, 36) * 2 * 9 * 64 * 176
    assert found["embedding"].grad_input == 0 and found["embedding"].training == 2 * found["embedding"].forward
    kinds = Counter(each.kind for each in module_flops(CASES["moe"]))
    assert kinds == {"linear": 3 * 4 + 1, "attention": 3, "router": 3, "experts": 9, "mixing": 3}


def test_of_the_fused_kernel_of_the_cpu_torch_counts_nothing() -> None:
    # Why the tests above ask for the plain one; it fails on the day that torch learns to count it.
    spec = CASES["swiglu"]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        build(spec).losses(tokens(spec))
    attention = sum(each.forward for each in module_flops(spec) if each.kind == "attention")
    full = forward_flops(module_flops(spec), attention="full")
    assert counter.get_total_flops() == (full - attention) * spec.shape.context * SEQUENCES


def test_what_is_no_model_is_refused() -> None:
    spec = CASES["swiglu"]
    asked = SimpleNamespace(model="mamba", shape=spec.shape, base=spec.base, architecture=spec.architecture)
    with pytest.raises(Refused, match="unknown model 'mamba'"):
        module_flops(asked)
