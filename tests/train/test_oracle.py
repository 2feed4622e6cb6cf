"""A member of a population against loops that know nothing of one: scalelab's own modules, and a plain transformer."""

import importlib.util
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from scalelab.data.corpus import train_batch
from scalelab.networks import build, members
from scalelab.networks.members import product
from scalelab.optim import hand_over, optimizers, set_lr
from scalelab.optimizers import OPTIMIZERS
from scalelab.shape import Architecture
from scalelab.spec import RunSpec
from scalelab.train.batches import corpus_of
from tests.conftest import ROOT, make_spec
from tests.train.running import NARROW, assert_same_tensors, of_model, run_each, to_horizon

TUNED: dict[str, Any] = {"lr": 0.02, "weight_decay": 0.5, "clip_norm": 0.3, "beta2": 0.99, "momentum": 0.9}
WITHOUT: dict[str, Any] = {"clip_norm": None, "momentum": 0.9}


def batch(spec: RunSpec, step: int) -> Tensor:
    return torch.from_numpy(
        train_batch(corpus_of(spec), seed=spec.seed, step=step, sequences=spec.sequences, context=spec.shape.context)
    )


def trained_plainly(spec: RunSpec) -> tuple[nn.Module, list[torch.optim.Optimizer]]:
    """The loop that anybody would write, on the ordinary module."""
    network = build(spec)
    found = optimizers(network, spec)
    for step in range(spec.horizon.steps):
        if spec.kind.then and step == spec.horizon.decay_start:
            before, found = found, optimizers(network, spec, then=True)
            hand_over(before, found)
        for optim in found:
            optim.zero_grad()
        network.loss(batch(spec, step)).backward()  # type: ignore[no-untyped-call]
        if spec.hparams.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), spec.hparams.clip_norm)
        set_lr(found, spec.horizon.lr_factor(step))
        for optim in found:
            optim.step()
    return network, found


def assert_members_are_plain_runs(specs: list[RunSpec]) -> None:
    for spec, ran in zip(specs, run_each(specs, members=len(specs)), strict=True):
        network, found = trained_plainly(spec)
        assert ran.state is not None
        assert_same_tensors(dict(network.state_dict()), ran.state["network"])
        kept = {parameter: state for optim in found for parameter, state in optim.state.items()}
        assert {name for name, p in network.named_parameters() if p in kept} == ran.state["optimizer"].keys()
        for name, parameter in network.named_parameters():
            assert_same_tensors(kept.get(parameter, {}), ran.state["optimizer"].get(name, {}), of=name)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_member_is_the_run_of_an_ordinary_loop(optimizer: str) -> None:
    given = {**NARROW, "optimizer": optimizer, **({"schedule": "wsd"} if OPTIMIZERS[optimizer].then else {})}
    assert_members_are_plain_runs(
        [make_spec(**given, hparams=hparams, seed=seed) for seed, hparams in enumerate((TUNED, WITHOUT, {}))]
    )


ARCHITECTURES = {
    "tied": Architecture(tied_head=True),
    "biases": Architecture(mlp="gelu", biases=True),
    "QK-norm": Architecture(mlp="relu", qk_norm=True),
    "learned positions": Architecture(positions="learned", norm_gains="none"),
    "all": Architecture(tied_head=True, biases=True, qk_norm=True, norm_gains="scalar", positions="learned"),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_of_every_kind_of_transformer(name: str) -> None:
    given = {**NARROW, "width": 32, "architecture": ARCHITECTURES[name], "sizes": {"heads": 2, "kv_heads": 1}}
    multiplied = {"attention_multiplier": 0.5, "logits_multiplier": 2.0, "embedding_multiplier": 3.0, "z_loss": 1e-3}
    assert_members_are_plain_runs([make_spec(**given, hparams=each) for each in ({"z_loss": 1e-4}, multiplied)])


@pytest.mark.parametrize("sizes", [{"ffn": 85}, {"context": 15}, {"vocab": 256, "context": 7, "ffn": 50}])
def test_sizes_that_fill_no_vector_are_a_plain_run_each(sizes: dict[str, int]) -> None:
    """Beside others a member's rows may start within a vector of the processor, and have other bits."""
    batch_tokens = 4 * sizes.get("context", 16)
    spec = make_spec(**NARROW, architecture=Architecture(biases=True))
    shape = replace(spec.shape, **sizes)
    horizon = replace(spec.horizon, tokens=5 * batch_tokens, batch_tokens=batch_tokens)
    assert_members_are_plain_runs([replace(spec, shape=shape, base=shape, horizon=horizon)])


@pytest.mark.parametrize("model", ["moe", "mlp", "resnet", "vit", "u_mup"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_of_every_model(model: str, optimizer: str) -> None:
    if model == "u_mup" and optimizer != "adamw":
        pytest.skip("u-muP has no rules for it")
    hparams = {"clip_norm": 0.3, "logits_multiplier": 2.0}
    specs = [of_model(model, optimizer=optimizer, hparams=tuned, seed=seed) for seed, tuned in enumerate((hparams, {}))]
    assert_members_are_plain_runs([to_horizon(spec, 5) for spec in specs])


@pytest.mark.parametrize("sides", [(4, 32), (8, 256), (32, 4), (256, 8), (8, 85), (17, 64), (64, 16), (256, 256)])
@pytest.mark.parametrize("rows", [16, 512])
def test_a_product_is_that_of_the_member_alone_however_many_there_are(sides: tuple[int, int], rows: int) -> None:
    """From 2^16 elements on, members included, another way is taken; a router, a patch or a head is narrow."""
    generator = torch.Generator().manual_seed(0)
    x, weight, grad = (
        torch.randn(*shape, generator=generator) for shape in ((rows, sides[1]), sides, (rows, sides[0]))
    )

    def gradients(count: int) -> list[Tensor]:
        given = [each.expand(count, *each.shape).clone().requires_grad_() for each in (x, weight)]
        product(*given).backward(grad.expand(count, *grad.shape))
        return [cast(Tensor, each.grad) for each in given]

    alone = [each.clone().requires_grad_() for each in (x, weight)]
    nn.functional.linear(*alone).backward(grad)
    for count in (1, 2, members.LARGE // weight.numel() + 1):
        for one, several in zip(alone, gradients(count), strict=True):
            assert all(torch.equal(cast(Tensor, one.grad), each) for each in several)


# --- a transformer that shares no line with scalelab's ----------------------------------------------------------------


def plain_module() -> Any:
    spec = importlib.util.spec_from_file_location("plain", ROOT / "benchmarks" / "population" / "plain.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PLACES = {
    "attention.norm.gain": "attention_norm.weight", "mlp.norm.gain": "mlp_norm.weight", "norm.gain": "norm.weight",
    "attention.": "", "mlp.": "",
}  # fmt: skip


def plain_name(name: str) -> str:
    for ours, theirs in PLACES.items():
        name = name.replace(ours, theirs)
    return name


@pytest.fixture
def at_base() -> RunSpec:
    """A run at its base, where no parametrization multiplies anything; a schedule that does not move."""
    spec = make_spec("mup", width=32, base_width=32, architecture=Architecture(), schedule="constant", tokens=64 * 20)
    return replace(spec, horizon=replace(spec.horizon, warmup_fraction=0.0))


def plain_copy(spec: RunSpec) -> nn.Module:
    plain: nn.Module = plain_module().PlainTransformer(spec)
    plain.load_state_dict({plain_name(name): value for name, value in build(spec).state_dict().items()}, strict=True)
    return plain


def test_logits_and_gradients_are_those_of_a_plain_transformer(at_base: RunSpec) -> None:
    network, plain, tokens = build(at_base), plain_copy(at_base), batch(at_base, 0)
    with torch.no_grad():
        torch.testing.assert_close(network(tokens[:, :-1]), plain(tokens[:, :-1]), rtol=1e-5, atol=1e-5)
    network.loss(tokens).backward()  # type: ignore[no-untyped-call]
    plain.loss(tokens).backward()  # type: ignore[operator]
    theirs = dict(plain.named_parameters())
    for name, parameter in network.named_parameters():
        grad = theirs[plain_name(name)].grad
        assert grad is not None and parameter.grad is not None
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-4, atol=1e-6 * float(grad.abs().max()) + 1e-9)


def plain_losses(spec: RunSpec, dtype: torch.dtype) -> Tensor:
    """Twenty steps of the plain transformer under torch's own AdamW with its default implementation."""
    plain = plain_copy(spec).to(dtype)
    matrices = [p for p in plain.parameters() if p.dim() == 2]
    gains = [p for p in plain.parameters() if p.dim() == 1]
    hparams = spec.hparams
    optim = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": hparams.weight_decay}, {"params": gains, "weight_decay": 0.0}],
        lr=hparams.lr, betas=(hparams.beta1, hparams.beta2), eps=hparams.eps,
    )  # fmt: skip
    losses = []
    for step in range(spec.horizon.steps):
        optim.zero_grad()
        loss = plain.loss(batch(spec, step))  # type: ignore[operator]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), hparams.clip_norm or float("inf"))
        optim.step()
        losses.append(loss.detach().double())
    return torch.stack(losses)


def test_twenty_steps_are_those_of_a_plain_transformer(at_base: RunSpec) -> None:
    """To rounding: what float32 costs the plain transformer itself, against float64, is the yardstick."""
    exact, rounded = (plain_losses(at_base, dtype) for dtype in (torch.float64, torch.float32))
    specs = [at_base, replace(at_base, seed=1)]
    ran, _ = run_each(specs, members=2)
    ours = torch.tensor([at["loss_nats"] for at in ran.curve], dtype=torch.float64)
    noise = float((rounded - exact).abs().max())
    assert noise < 1e-4  # the yardstick itself, nats
    assert float((ours - exact).abs().max()) < 5 * noise + 1e-6
    assert float(exact[0] - exact[-1]) > 0.5  # and it has learned something in the meantime
