"""The image networks: counts, what they see and predict, that they learn, and which tables keep their promise on them.

The coordinate check is done both ways: tables that claim width or depth pass in it, those that do not fail.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scalelab import data, train
from scalelab.errors import Refused
from scalelab.models import count_flops_per_token, count_params, inventory
from scalelab.models.registry import tensors
from scalelab.networks import build
from scalelab.networks.layers import LOGITS, STREAM, Proxy
from scalelab.networks.transformer import rotate
from scalelab.networks.vit import ViT, axial_tables
from scalelab.optim import optimizers
from scalelab.optimizers import OPTIMIZERS, optimizer_kind
from scalelab.parametrizations.table import UNDECAYED, Role
from scalelab.resolve import settings
from scalelab.shape import Architecture
from scalelab.spec import DataSpec, Horizon, Hparams, RunSpec
from scalelab.train import member
from tests.conftest import make_shape, make_spec
from tests.helpers import scalelab, squeezed

MODELS = ("mlp", "resnet", "vit")
ARCHITECTURES = {
    "plain": Architecture(),
    "gelu": Architecture(mlp="gelu", biases=True, norm_gains="scalar", residual_init="depth-scaled"),
    "relu": Architecture(mlp="relu", norm_gains="none", zero_init_readout=True, readout_init="fan_in"),
}
VIT_ONLY = {"learned": Architecture(positions="learned", qk_norm=True, zero_init_query=True, attention_scale="sqrt")}
CASES = [
    pytest.param(model, architecture, id=f"{model}-{name}")
    for model in MODELS
    for name, architecture in (ARCHITECTURES | (VIT_ONLY if model == "vit" else {})).items()
]
models = pytest.mark.parametrize("model", MODELS)


def digits_spec(
    model: str,
    parametrization: str = "mup",
    *,
    width: int = 32,
    depth: int = 2,
    base_width: int = 32,
    base_depth: int = 2,
    optimizer: str = "adamw",
    images: int = 32,
    steps: int = 10,
    seed: int = 0,
    **hparams: Any,
) -> RunSpec:
    corpus = data.load("digits")
    sizes = {"vocab": 17, "context": 64, "ffn_ratio": 4 if model == "vit" else 1}
    return RunSpec(
        parametrization=parametrization,
        optimizer=optimizer,
        model=model,
        architecture=Architecture(mlp="gelu", positions="learned" if model == "vit" else "rotary"),
        shape=make_shape(width, depth, **sizes),
        base=make_shape(base_width, base_depth, **sizes),
        hparams=Hparams(**{"lr": 0.01, **hparams}),
        horizon=Horizon(tokens=64 * images * steps, batch_tokens=64 * images, schedule="linear"),
        data=DataSpec(
            name="digits", sha256=corpus.sha256, vocab=17, bytes_per_token=None, validation_tokens=297 * 64
        ),
        seed=seed,
    )  # fmt: skip


def images(count: int = 8, seed: int = 0) -> torch.Tensor:
    """Records [count, 65] of `digits`."""
    return torch.from_numpy(data.train_batch(data.load("digits"), seed=seed, step=0, sequences=count, context=64))


# --- what they are made of --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "architecture"), CASES)
def test_the_inventory_is_the_network(model: str, architecture: Architecture) -> None:
    sizes = {"ffn": 48, "heads": 4, "kv_heads": 2}
    spec = make_spec("sp", model=model, width=32, depth=3, architecture=architecture, sizes=sizes)
    network = build(spec)  # raises where roles and parameters differ
    assert count_params(spec).total == sum(p.numel() for p in network.parameters())
    inside = {name for name, _ in network.named_parameters() if name.startswith("blocks.")}
    assert {tensor.name for tensor in inventory(spec) if tensor.in_block} == inside
    grouped = [name for optim in optimizers(network, spec) for group in optim.param_groups for name in group["names"]]
    assert sorted(grouped) == sorted(tensor.name for tensor in inventory(spec))


@models
def test_finite_to_width_is_an_embedding(model: str) -> None:
    found = {tensor.name: tensor for tensor in inventory(digits_spec(model, width=128))}
    embedding = found.pop("embedding.weight")
    assert embedding.role is Role.EMBEDDING and embedding.fan_in is not None
    assert (embedding.fan_in.ratio, embedding.fan_out.ratio) == (1, 4)
    assert found["readout.weight"].role is Role.READOUT and found["readout.weight"].fan_out.ratio == 1
    hidden = [tensor for tensor in found.values() if tensor.role is Role.HIDDEN]
    assert all(tensor.fan_in and (tensor.fan_in.ratio, tensor.fan_out.ratio) == (4, 4) for tensor in hidden)


@pytest.mark.parametrize(("model", "architecture"), CASES)
@pytest.mark.parametrize("context", [16, 64])
def test_flops_are_those_that_torch_counts(model: str, architecture: Architecture, context: int) -> None:
    """Forward FLOPs of one image, thrice; vectors are in the convention and not in torch's count."""
    spec = make_spec(model=model, depth=3, architecture=architecture, sizes={"context": context, "heads": 2})
    with FlopCounterMode(display=False) as counter:
        build(spec)(torch.zeros(1, context, dtype=torch.int64))
    counted = {str(op): flops for op, flops in counter.get_flop_counts()["Global"].items()}
    matrices = sum(flops for op, flops in counted.items() if "attention" not in op)
    vectors = sum(6 * t.numel * t.uses for t in inventory(spec) if t.role in UNDECAYED)
    rounding = len(inventory(spec))  # the convention drops fractions of a FLOP
    assert abs(count_flops_per_token(spec).six_n - (3 * matrices / context + vectors)) <= rounding


def test_attention_flops_are_those_that_torch_counts() -> None:
    spec = make_spec(model="vit", depth=3, sizes={"context": 64, "heads": 2})
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # the fused kernel is not counted
        build(spec)(torch.zeros(1, 64, dtype=torch.int64))
    scores = counter.get_flop_counts()["Global"][torch.ops.aten.bmm]
    flops = count_flops_per_token(spec)
    assert flops.six_n_attention - flops.six_n == 3 * scores / 64


@models
@pytest.mark.parametrize("name", ["mup", "mup_table_3", "mup_table_9", "depth_mup", "completep", "completed_p"])
def test_at_the_base_every_table_is_sp_bit_for_bit(model: str, name: str) -> None:
    ours, sp = (digits_spec(model, table) for table in (name, "sp"))
    assert settings(ours) == settings(sp)
    assert torch.equal(build(ours)(images()[:, :-1]), build(sp)(images()[:, :-1]))


@models
def test_the_stream_starts_at_the_size_of_an_embedding(model: str) -> None:
    """About embedding_std for grey levels of unit variance, wherever the pixels sum to: a stem, a patch, an image."""
    network, noise = build(digits_spec(model, width=256)), torch.randint(0, 17, (64, 64))
    seen: list[torch.Tensor] = []
    network.embedding.register_forward_hook(lambda module, inputs, output: seen.append(output))
    network(noise)
    assert seen[0].square().mean().sqrt().item() == pytest.approx(1.0, abs=0.12)  # a stem's windows lack some pixels


@pytest.mark.parametrize(
    ("model", "options", "sizes", "says"),
    [
        ("mlp", {"tied_head": True}, {}, r"tied_head=True with model=mlp.*leave it at False"),
        ("mlp", {"qk_norm": True}, {}, r"qk_norm=True with model=mlp"),
        ("resnet", {"positions": "learned"}, {}, r"positions='learned' with model=resnet.*leave it at 'rotary'"),
        ("resnet", {"attention_scale": "sqrt"}, {}, r"attention_scale='sqrt' with model=resnet"),
        ("resnet", {}, {"context": 15}, r"context=15 is no square.*try context=9"),
        ("vit", {"tied_head": True}, {}, r"tied_head=True with model=vit"),
        ("vit", {}, {"context": 25}, r"images of 5×5 are not whole patches of 2×2"),
        ("vit", {}, {"heads": 16}, r"head_dim=2: .* choose a multiple of 4 or positions=learned"),
        ("mlp", {}, {"experts": 4}, r"experts=4 with model=mlp"),
    ],
)
def test_what_it_cannot_build_is_refused(model: str, options: dict[str, Any], sizes: dict[str, int], says: str) -> None:
    shape = make_shape(32, **sizes)
    with pytest.raises(Refused, match=says) as refusal:
        tensors(model, shape, shape, Architecture(**options))
    assert "\n" not in str(refusal.value)


# --- what they see and predict ----------------------------------------------------------------------------------------


@models
def test_the_label_is_what_the_last_token_is_held_against(model: str) -> None:
    network, records = build(digits_spec(model)), images()
    logits = network(records[:, :-1])
    assert logits.shape == (8, 1, 17)
    by_hand = -logits[:, 0].log_softmax(-1)[torch.arange(8), records[:, -1]]
    torch.testing.assert_close(network.losses(records), by_hand.double())
    torch.testing.assert_close(network.loss(records), by_hand.mean())


def test_a_patch_is_a_square_of_pixels_and_attention_sees_them_all() -> None:
    network, records = build(digits_spec("vit")), images(1)
    assert isinstance(network, ViT)
    seen: dict[str, torch.Tensor] = {}
    network.embedding.register_forward_hook(lambda module, inputs, output: seen.update(patches=inputs[0]))
    network.blocks[0].register_forward_hook(lambda module, inputs, output: seen.update(stream=output))
    network(records[:, :-1])
    before = dict(seen)
    records[0, 5 * 8 + 7] += 1  # row 5, column 7: patch 2·4 + 3, in it row 1, column 1
    network(records[:, :-1])
    assert (seen["patches"] != before["patches"]).nonzero().tolist() == [[0, 11, 3]]
    assert (seen["stream"] != before["stream"]).any(-1).all()  # the patches before it, too


def test_rotary_positions_see_displacements_in_both_directions() -> None:
    q, k = torch.randn(2, 16, generator=torch.Generator().manual_seed(0)).unsqueeze(1).expand(2, 16, 16)
    rope = axial_tables(4, 16)
    scores = torch.einsum("pk,sk->ps", *(rotate(x.unsqueeze(1), rope).squeeze(1) for x in (q, k)))
    torch.testing.assert_close(scores[5, 6], scores[9, 10])  # one to the right
    torch.testing.assert_close(scores[2, 10], scores[5, 13])  # two down
    assert abs(scores[5, 6] - scores[5, 9]) > 1e-3


@models
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_trains_it(model: str, optimizer: str) -> None:
    spec = make_spec(
        model=model,
        optimizer=optimizer,
        width=16,
        base_width=16,
        sizes={"ffn": 16},
        tokens=64 * 5,
        hparams={"shape_factor": "spectral", "lr": 1e-3},
        schedule="wsd" if optimizer_kind(optimizer).then else "linear",
    )
    (trial,) = train.run([spec])
    assert trial.loss_nats is not None and trial.loss_nats < math.log(256) + 1


def accuracy(network: Proxy) -> float:
    held_out = data.validation_batches(data.load("digits"), tokens=297 * 64, sequences=297, context=64)
    records = torch.from_numpy(next(iter(held_out)))
    with torch.no_grad():
        return (network(records[:, :-1])[:, 0].argmax(-1) == records[:, -1]).double().mean().item()


@pytest.mark.parametrize("model", ["mlp", "vit", pytest.param("resnet", marks=pytest.mark.slow)])
def test_it_learns_to_read_digits(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Proxy] = []
    monkeypatch.setattr(member, "build", lambda *given: trained.append(build(*given)) or trained[-1])
    (trial,) = train.run([digits_spec(model, images=64, steps=100)])
    print(f"{model}: {trial.loss_nats:.3f} nats, accuracy {accuracy(trained[0]):.3f}")  # noqa: T201
    assert trial.loss_nats is not None and trial.loss_nats < 0.3 * math.log(10)
    assert accuracy(trained[0]) > 0.8


# --- the coordinate check ---------------------------------------------------------------------------------------------

TOLERANCE = 0.25
SEEDS, STEPS = 3, 4
# Rates at which a step moves the stream by a small part of itself: what is measured is the step, not the curvature of
# the loss. SGD's step is proportional to p − y, whose mean over images is larger where the first logits are, at small
# widths (a ViT's: 0.36, 0.25, 0.23 at width 64, 128, 256, and its updates' slope −0.25): so its logits start small.
TUNED = {"adamw": {"lr": 0.001}, "sgd": {"lr": 0.1, "logits_multiplier": 0.1}}
WIDTHS = {"mlp": (64, 128, 256, 512), "vit": (64, 128, 256), "resnet": (16, 32, 64)}
DEPTHS = (4, 8, 16)
BASE_DEPTH = (
    2  # below the depths: a base's own branches are not yet small, and CompleteP's stream falls as they become so
)


def changes(spec: RunSpec) -> dict[str, float]:
    """log2 of the mean |x_t − x_0| of the last module under each label, on eight images, after `STEPS` full steps."""
    network, shown = build(spec), images(8, seed=10**6)[:, :-1]

    def outputs() -> dict[str, torch.Tensor]:
        seen: dict[str, torch.Tensor] = {}
        hooks = [
            found[-1].register_forward_hook(lambda module, inputs, output, label=label: seen.update({label: output}))
            for label, found in network.observed().items()
        ]
        with torch.no_grad():
            network(shown)
        for hook in hooks:
            hook.remove()
        return seen

    before, optims = outputs(), optimizers(network, spec)
    for step in range(STEPS):
        batch = data.train_batch(data.load("digits"), seed=spec.seed, step=step, sequences=32, context=64)
        network.zero_grad()
        network.loss(torch.from_numpy(batch)).backward()
        for optim in optims:
            optim.step()
    return {label: math.log2((x - before[label]).abs().mean().item()) for label, x in outputs().items()}


def slopes(model: str, parametrization: str, axis: str, values: Sequence[int], optimizer: str) -> dict[str, float]:
    """d log2 |x_t − x_0| / d log2 width (or depth) of each label, over `SEEDS` seeds."""
    torch.set_num_threads(1)
    base = {"base_width": values[0]} if axis == "width" else {"base_depth": BASE_DEPTH}
    given = {"optimizer": optimizer, **TUNED[optimizer], **base}
    rows = [
        [changes(digits_spec(model, parametrization, seed=seed, **given, **{axis: value})) for seed in range(SEEDS)]
        for value in values
    ]
    x = np.log2(values) - np.log2(values).mean()
    found = {
        label: float(x @ [np.mean([change[label] for change in row]) for row in rows] / (x @ x))
        for label in ("embedding", STREAM, LOGITS)
    }
    shown = ", ".join(f"{label} {slope:+.2f}" for label, slope in found.items())
    print(f"{model} {parametrization} {axis} {optimizer}: {shown}")  # noqa: T201
    return found


checked = pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        pytest.param(model, optimizer, marks=[] if (model, optimizer) == ("mlp", "adamw") else [pytest.mark.slow])
        for model in MODELS
        for optimizer in TUNED
    ],
)


@checked
def test_mup_keeps_updates_in_width_and_sp_does_not(model: str, optimizer: str) -> None:
    mup = slopes(model, "mup", "width", WIDTHS[model], optimizer)
    assert all(abs(slope) < TOLERANCE for slope in mup.values()), mup
    sp = slopes(model, "sp", "width", WIDTHS[model], optimizer)
    assert sp[STREAM] > TOLERANCE and sp[LOGITS] > TOLERANCE, sp
    if optimizer == "sgd":  # one rate for all: as the readout's grows, the embedding's vanishes
        assert sp["embedding"] < -TOLERANCE, sp


@checked
def test_tables_with_a_depth_rule_keep_updates_in_depth_and_mup_does_not(model: str, optimizer: str) -> None:
    for table in ("completep", "completep_half", "depth_mup"):
        found = slopes(model, table, "depth", DEPTHS, optimizer)
        assert all(abs(slope) < TOLERANCE for slope in found.values()), (table, found)
    mup = slopes(model, "mup", "depth", DEPTHS, optimizer)
    assert mup[STREAM] > 2 * TOLERANCE, mup


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_sweep_over_widths_is_trained_and_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = scalelab(
        "train", "-m", "study=digits", "model=resnet", "data=digits", "context=64", "width=16,32", "base.width=16",
        "lr=0.0005,0.002,0.008,0.032", "tokens=20480", "batch_tokens=1024", "validation_tokens=4096",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    result = scalelab("fit", "runs/digits")
    assert result.exit_code == 0, result.output
    assert "8 runs, 0 diverged" in squeezed(result.output)
