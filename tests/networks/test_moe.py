"""The mixture of experts: against a dense loop, by hand, and what muP promises of it, measured."""

import copy
import pickle
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from scalelab import data as corpora
from scalelab.data.corpus import train_batch
from scalelab.errors import Refused
from scalelab.models import count_flops_per_token, count_params, inventory
from scalelab.networks import build
from scalelab.networks.moe import Experts, Mixture, MoE, balance
from scalelab.optim import optimizers
from scalelab.parametrizations import Family, Role
from scalelab.parametrizations.mup import MUP
from scalelab.resolve import settings
from scalelab.scale import Power
from scalelab.shape import Architecture
from scalelab.spec import RunSpec
from tests.conftest import make_spec
from tests.helpers import TINY, one_line, scalelab

KINDS = ("swiglu", "gelu", "relu", "squared_relu")


def moe_spec(
    parametrization: str = "mup",
    *,
    width: int = 32,
    base_width: int = 32,
    experts: int = 4,
    top_k: int = 2,
    granularity: int = 1,
    base: tuple[int, int, int] | None = None,
    architecture: Architecture | None = None,
    **rest: Any,
) -> RunSpec:
    """A spec of model=moe; `base` is its (experts, top_k, granularity), by default the target's."""

    def sizes(width: int, experts: int, top_k: int, granularity: int) -> dict[str, int]:
        finer = {"experts": experts * granularity, "top_k": top_k * granularity, "ffn": 4 * width // granularity}
        return {"context": 32, "heads": max(1, width // 32), **finer}

    target = (experts, top_k, granularity)
    return make_spec(
        parametrization,
        model="moe",
        width=width,
        base_width=base_width,
        architecture=architecture or Architecture(),
        sizes=sizes(width, *target),
        base_sizes=sizes(base_width, *(base or target)),
        **rest,
    )


def tokens_of(spec: RunSpec, step: int, sequences: int = 8) -> Tensor:
    corpus = corpora.load("embedded")
    return torch.from_numpy(
        train_batch(corpus, seed=spec.seed, step=step, sequences=sequences, context=spec.shape.context)
    )


def built(spec: RunSpec) -> MoE:
    network = build(spec)
    assert isinstance(network, MoE)
    return network


def mixtures(network: MoE) -> list[Mixture]:
    return [module for module in network.modules() if isinstance(module, Mixture)]


# --- the function -----------------------------------------------------------------------------------------------------


def dense_loop(experts: Experts, x_BTD: Tensor, chosen_BTK: Tensor) -> Tensor:
    """Every expert on every token; then each token's own are picked."""
    outputs = []
    for e in range(len(experts.up.weight)):
        up = F.linear(x_BTD, experts.up.weight[e])
        a = experts.activation(up)
        if experts.gate is not None:
            a = experts.activation(F.linear(x_BTD, experts.gate.weight[e])) * up
        outputs.append(F.linear(a, experts.down.weight[e]))
    y_BTED = torch.stack(outputs, dim=-2)
    return y_BTED.gather(-2, chosen_BTK.unsqueeze(-1).expand(*chosen_BTK.shape, y_BTED.shape[-1]))


@pytest.mark.parametrize("mlp", KINDS)
@pytest.mark.parametrize(("experts", "top_k"), [(4, 2), (4, 4), (64, 3)])  # of 64 some meet no token
def test_it_is_the_dense_loop_forward_and_backward(
    mlp: Any, experts: int, top_k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = moe_spec(experts=experts, top_k=top_k, architecture=Architecture(mlp=mlp))
    network, tokens = built(spec), tokens_of(spec, 0, sequences=2)
    found = []
    for forward in (Experts.forward, dense_loop):
        monkeypatch.setattr(Experts, "forward", forward)
        network.zero_grad()
        network.loss(tokens).backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        found.append((network(tokens[:, :-1]), [gradient.clone() for gradient in gradients]))
    (ours, gradients), (oracle, expected) = found
    torch.testing.assert_close(ours, oracle, rtol=1e-5, atol=1e-5)
    assert len(gradients) == len(expected) == len(list(network.parameters()))
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_weights_are_a_softmax_over_the_chosen_logits() -> None:
    network = built(moe_spec(experts=8, top_k=3))
    mixture, x_BTD = mixtures(network)[0], torch.randn(2, 5, 32)
    h_BTD = mixture.norm(x_BTD)
    logits_BTK, chosen_BTK = mixture.router(h_BTD).topk(3, dim=-1)
    expected = (logits_BTK.softmax(dim=-1).unsqueeze(-1) * mixture.experts(h_BTD, chosen_BTK)).sum(dim=-2)
    torch.testing.assert_close(mixture(x_BTD), expected)


def test_one_expert_is_the_dense_transformer() -> None:
    dense_spec = make_spec(width=32, sizes={"context": 32, "heads": 1}, architecture=Architecture())
    dense, one = build(dense_spec), built(moe_spec(experts=1, top_k=1))
    weights = {
        name.replace(".mlp.", ".mlp.experts.") if name.endswith(".weight") and ".mlp." in name else name: weight
        for name, weight in dense.state_dict().items()
    }
    stacked = {name: weight.unsqueeze(0) if ".experts." in name else weight for name, weight in weights.items()}
    missing = one.load_state_dict(stacked, strict=False)
    assert not missing.unexpected_keys and all("router" in name for name in missing.missing_keys)
    tokens = tokens_of(dense_spec, 0)
    torch.testing.assert_close(one(tokens[:, :-1]), dense(tokens[:, :-1]))
    torch.testing.assert_close(one.losses(tokens), dense.losses(tokens))


def test_two_passes_give_the_same_bits_and_sequences_do_not_mix() -> None:
    spec = moe_spec(experts=8)
    network, tokens = built(spec), tokens_of(spec, 0)
    assert torch.equal(network.losses(tokens), network.losses(tokens))
    alone = torch.cat([network.losses(row) for row in tokens.split(1)])  # type: ignore[no-untyped-call]
    torch.testing.assert_close(network.losses(tokens), alone, rtol=1e-5, atol=1e-6)


def test_the_router_computes_in_float32_under_autocast() -> None:
    mixture, x_BTD = mixtures(built(moe_spec()))[0], torch.randn(1, 7, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert mixture.router(x_BTD.bfloat16()).dtype == torch.float32
        assert mixture.experts.up(x_BTD[0], [7, 0, 0, 0]).dtype == torch.bfloat16
        assert mixture(x_BTD).isfinite().all()


@pytest.mark.filterwarnings("ignore")  # torch's own, while it traces
def test_it_compiles() -> None:
    spec = moe_spec(depth=1)
    network, tokens = built(spec), tokens_of(spec, 0)
    compiled = torch.compile(network.loss, backend="eager", dynamic=False)
    torch.testing.assert_close(compiled(tokens), network.loss(tokens))


# --- the load-balancing loss ------------------------------------------------------------------------------------------


def test_balance_by_hand() -> None:
    probability = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.1, 0.4]])
    # K = 1: shares (1, 0, 0), means (.6, .15, .25). K = 2: shares (½, ¼, ¼).

    def of(probability_TE: torch.Tensor, chosen_TK: torch.Tensor) -> float:
        return balance(probability_TE[None], chosen_TK[None]).item()

    assert of(probability, torch.tensor([[0], [0]])) == pytest.approx(3 * 0.6)
    assert of(probability, torch.tensor([[0, 1], [0, 2]])) == pytest.approx(3 * (0.3 + 0.0375 + 0.0625))
    assert of(torch.full((4, 4), 0.25), torch.arange(4).unsqueeze(1)) == 1.0


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("top_k", [2, 4])
def test_a_uniform_router_costs_the_coefficient_whatever_the_depth(depth: int, top_k: int) -> None:
    spec = moe_spec(depth=depth, top_k=top_k, experts=8, hparams={"balance_loss": 0.25})
    network, tokens = built(spec), tokens_of(spec, 0)
    for mixture in mixtures(network):
        torch.nn.init.zeros_(mixture.router.weight)
    mean = network.losses(tokens).mean()
    assert network.loss(tokens).item() == pytest.approx(mean.item() + 0.25, abs=1e-6)


def test_without_a_coefficient_it_is_the_cross_entropy() -> None:
    spec = moe_spec(hparams={"balance_loss": 0.0})
    network, tokens = built(spec), tokens_of(spec, 0)
    assert network.auxiliary() is None
    assert network.loss(tokens).item() == pytest.approx(network.losses(tokens).mean().item(), abs=1e-6)
    assert network.auxiliary() is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_a_copy_after_a_forward_pass_is_the_same_network(copied: Callable[[MoE], MoE]) -> None:
    spec = moe_spec()
    network, tokens = built(spec), tokens_of(spec, 0)
    loss = network.loss(tokens)
    other = copied(network)
    assert other.auxiliary() is None  # no pass of its own yet
    assert other.loss(tokens).item() == loss.item()
    assert network.auxiliary() is not None


def test_it_is_a_function_of_its_parameters() -> None:
    spec = moe_spec()
    network, tokens = built(spec), tokens_of(spec, 0)
    parameters = {name: p.detach() for name, p in network.named_parameters()}

    def total(values: dict[str, Tensor]) -> Tensor:
        logits = torch.func.functional_call(network, values, (tokens[:, :-1],))
        auxiliary = network.auxiliary()
        assert auxiliary is not None
        return F.cross_entropy(logits.flatten(0, -2), tokens[:, 1:].flatten()) + auxiliary

    gradients = torch.func.grad(total)(parameters)
    network.loss(tokens).backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad)


# --- what is counted, what is refused ---------------------------------------------------------------------------------


def test_parameters_and_flops_are_those_of_the_experts_a_token_meets() -> None:
    spec = moe_spec(width=32, experts=8, top_k=2, depth=2)
    d, f, v = 32, 128, 256
    attention, expert, router, gains = 4 * d * d, 3 * d * f, 8 * d, 2 * d
    params = count_params(spec)
    assert params.non_embedding == 2 * (attention + 8 * expert + router + gains) + d
    assert params.active == 2 * (attention + 2 * expert + router + gains) + d
    assert params.total == params.non_embedding + 2 * v * d == sum(p.numel() for p in built(spec).parameters())
    matrices = 2 * (attention + 2 * expert + router) + v * d
    assert count_flops_per_token(spec).six_n - 6 * (2 * 2 * d + d) == 6 * matrices  # gains are counted as used once


def test_torch_counts_the_same_flops_in_the_experts() -> None:
    spec = moe_spec(experts=8, top_k=2, depth=1)
    network, tokens = built(spec), tokens_of(spec, 0, sequences=4)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(tokens[:, :-1])
    counted = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    n = 4 * spec.shape.context
    for module, role in (("experts", Role.EXPERT), ("router", Role.ROUTER)):
        used = sum(int(t.numel * t.uses) for t in inventory(spec) if t.role is role)
        assert counted[f"MoE.blocks.0.mlp.{module}"] == 2 * n * used  # forward; 6 with the backward pass


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"architecture": Architecture(biases=True)}, "biases=true with model=moe"),
        ({"experts": 8, "top_k": 1}, "top_k=1 of experts=8"),
        ({"experts": 2, "top_k": 3}, "top_k=3 of experts=2"),
    ],
)
def test_what_it_cannot_be_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said):
        build(moe_spec(**given))


def test_what_a_transformer_may_be_it_may_be() -> None:
    architecture = Architecture(tied_head=True, qk_norm=True, norm_gains="scalar", positions="learned")
    spec = moe_spec(architecture=architecture)
    assert built(spec).loss(tokens_of(spec, 0)).isfinite()


# --- the parametrization ----------------------------------------------------------------------------------------------


def test_stacks_are_scaled_by_the_dimensions_of_one_expert() -> None:
    # A reading of [E, out, in] as one matrix with fan_in and fan_out its first two axes gives 1/4 under SGD for these.
    spec = moe_spec(width=128, base_width=32, experts=8, optimizer="sgd", architecture=Architecture(mlp="gelu"))
    found = {s.tensor.name: s for s in settings(spec) if s.tensor.role is Role.EXPERT}
    assert len(found) == 4
    assert all(s.lr == spec.hparams.lr and s.init_std == pytest.approx(s.tensor.fan_in.size**-0.5)
               for s in found.values() if s.tensor.fan_in)  # fmt: skip
    adam = moe_spec(width=128, base_width=32, experts=8)
    assert {s.lr for s in settings(adam) if s.tensor.role is Role.EXPERT} == {adam.hparams.lr / 4}


def test_more_experts_than_the_base_has_scale_eps_and_nothing_else() -> None:
    for role in (Role.ROUTER, Role.EXPERT):
        for family in Family:
            rule = MUP.rule(role, family)
            cells = (rule.multiplier, rule.init, rule.lr)
            assert all(isinstance(cell, Power) and cell.exponent("experts") == 0 for cell in cells)
            if rule.eps is not None:
                assert rule.eps.exponent("experts") == Fraction(-(family.eps_degree or 0), 2)


@pytest.mark.parametrize("optimizer", ["muon", "shampoo", "soap", "sgd", "adamw"])
def test_optimizers_take_a_stack_for_matrices(optimizer: str) -> None:
    rates = {"lr": 0.01, **({"shape_factor": "spectral"} if optimizer == "muon" else {})}
    spec = moe_spec(width=32, optimizer=optimizer, hparams=rates)
    network = built(spec)
    optims = optimizers(network, spec)
    stacks = [p for name, p in network.named_parameters() if ".experts." in name]
    assert all(any(p is q for group in optims[0].param_groups for q in group["params"]) for p in stacks)
    losses, fixed = [], tokens_of(spec, 0)
    for _ in range(3):
        loss = network.loss(fixed)
        network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optim in optims:
            optim.step()
        losses.append(loss.item())
    assert network.loss(fixed).item() < losses[0]


# --- measured slopes: d log2(size) / d log2(scale) --------------------------------------------------------------------

WIDTHS, EXPERTS, FINER = (64, 128, 256), (4, 8, 16, 32), (1, 2, 4)
SGD: dict[str, Any] = {"optimizer": "sgd", "hparams": {"lr": 0.1, "weight_decay": 0.0}}
ADAM: dict[str, Any] = {"optimizer": "adamw", "hparams": {"lr": 0.005, "weight_decay": 0.0}}


def slopes(values: Sequence[int], measured: Callable[[int, int], dict[str, float]], seeds: int) -> dict[str, float]:
    rows = [[measured(value, seed) for seed in range(seeds)] for value in values]
    sizes = {name: [np.mean([np.log2(one[name]) for one in row]) for row in rows] for name in rows[0][0]}
    return {name: float(np.polyfit(np.log2(values), size, 1)[0]) for name, size in sizes.items()}


def gradients(spec: RunSpec, *, after: int = 0, sequences: int = 16) -> dict[str, float]:
    """Root mean square of the gradient of each kind of matrix, after some steps."""
    network = trained(spec, after, sequences)
    network.zero_grad()
    network.loss(tokens_of(spec, 0, sequences)).backward()  # type: ignore[no-untyped-call]
    squares: dict[str, list[float]] = {}
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        if parameter.ndim > 1:
            squares.setdefault(name.split(".", 2)[-1], []).append(parameter.grad.square().mean().item())
    return {name: float(np.sqrt(np.mean(each))) for name, each in squares.items()}


def trained(spec: RunSpec, steps: int, sequences: int) -> MoE:
    network = built(spec)
    optims = optimizers(network, spec)
    for step in range(1, steps + 1):
        network.zero_grad()
        network.loss(tokens_of(spec, step, sequences)).backward()  # type: ignore[no-untyped-call]
        for optim in optims:
            optim.step()
    return network


def changes(spec: RunSpec, *, steps: int = 4, sequences: int = 16) -> dict[str, float]:
    """Mean |change| of activations on one batch after some steps.

    "own …" is what the changed weights of a module alone do, on the last inputs: without what routes and feeds it.
    """
    fixed, start, network = tokens_of(spec, 0)[:, :-1], built(spec), trained(spec, steps, sequences)
    before, _ = outputs(start, fixed)
    after, inputs = outputs(network, fixed)
    found = {label: (after[label] - before[label]).abs().mean().item() for label in after}
    with torch.no_grad():
        for kind in ("router", "experts"):
            old = torch.stack(
                [getattr(m, kind)(*given) for m, given in zip(mixtures(start), inputs[kind], strict=True)]
            )
            new = torch.stack(
                [getattr(m, kind)(*given) for m, given in zip(mixtures(network), inputs[kind], strict=True)]
            )
            found[f"own {kind}"] = (new - old).abs().mean().item()
    return found


@torch.no_grad()
def outputs(network: MoE, ids: Tensor) -> tuple[dict[str, Tensor], dict[str, list[tuple[Tensor, ...]]]]:
    seen: dict[str, list[Tensor]] = {}
    inputs: dict[str, list[tuple[Tensor, ...]]] = {"router": [], "experts": []}
    hooks = [
        module.register_forward_hook(lambda module, given, y, label=label: seen.setdefault(label, []).append(y))
        for label, found in network.observed().items()
        for module in found
    ]
    for mixture in mixtures(network):
        for kind, into in inputs.items():
            module = getattr(mixture, kind)
            hooks.append(module.register_forward_hook(lambda module, given, y, into=into: into.append(given)))
    network(ids)
    for hook in hooks:
        hook.remove()
    return {label: torch.stack(ys[-1:] if label == "residual stream" else ys) for label, ys in seen.items()}, inputs


def test_what_is_observed() -> None:
    labels = list(built(moe_spec()).observed())
    assert {"router", "expert outputs", "mlp out", "residual stream", "logits"} <= set(labels)
    assert "up" not in labels


def test_gradients_fall_like_one_over_width() -> None:
    found = slopes(WIDTHS, lambda width, seed: gradients(moe_spec(width=width, base_width=64, seed=seed)), seeds=2)
    assert {name for name in found if ".experts." in name} == {
        f"mlp.experts.{m}.weight" for m in ("gate", "up", "down")
    }
    router = found.pop("mlp.router.weight")
    assert all(slope == pytest.approx(-1, abs=0.15) for slope in found.values()), found
    # At the start the outputs of experts are random against the gradient of their sum, an extra -1/2; not when trained.
    assert router == pytest.approx(-1.5, abs=0.2)

    def later(width: int, seed: int) -> dict[str, float]:
        return gradients(moe_spec(width=width, base_width=64, seed=seed, **ADAM), after=8)

    assert slopes(WIDTHS, later, seeds=2)["mlp.router.weight"] == pytest.approx(-1, abs=0.25)


def test_gradients_of_experts_fall_like_the_root_of_their_number_or_faster() -> None:
    found = slopes(EXPERTS, lambda experts, seed: gradients(moe_spec(experts=experts, seed=seed)), seeds=2)
    for name, slope in found.items():
        low, high = (-0.8, -0.4) if ".experts." in name or "router" in name else (-0.2, 0.2)
        assert low < slope < high, (name, slope)


@pytest.mark.parametrize(("parametrization", "depth"), [("mup", 2), ("completep", 4)])
@pytest.mark.parametrize("optimizer", [ADAM, SGD], ids=["adamw", "sgd"])
def test_updates_do_not_move_with_width(parametrization: str, depth: int, optimizer: dict[str, Any]) -> None:
    def measured(width: int, seed: int) -> dict[str, float]:
        return changes(moe_spec(parametrization, width=width, base_width=64, depth=depth, seed=seed, **optimizer))

    found = slopes(WIDTHS, measured, seeds=2)
    outward = {name: found.pop(name) for name in ("router", "logits", "own router")}
    assert all(abs(slope) < 0.25 for slope in found.values()), found
    # What maps width to finite starts as a sum of width terms without a mean: -1/2 until it is trained (TP-V App. D.2).
    assert all(-0.75 < slope < 0.25 for slope in outward.values()), outward


def test_under_sp_they_grow() -> None:
    def measured(width: int, seed: int) -> dict[str, float]:
        return changes(moe_spec("sp", width=width, base_width=64, seed=seed, **ADAM))

    found = slopes(WIDTHS, measured, seeds=1)
    assert all(found[name] > 0.5 for name in ("router", "expert outputs", "mlp out", "residual stream", "own experts"))


@pytest.mark.parametrize("optimizer", [ADAM, SGD], ids=["adamw", "sgd"])
def test_updates_do_not_move_with_the_number_of_experts(optimizer: dict[str, Any]) -> None:
    def measured(experts: int, seed: int) -> dict[str, float]:
        return changes(moe_spec(experts=experts, base=(4, 2, 1), seed=seed, **optimizer))

    found = slopes(EXPERTS, measured, seeds=2)
    router = found.pop("own router")  # of its rows, SGD moves those that a token chose
    assert abs(router) < 0.3 if optimizer is ADAM else -1.1 < router < -0.5
    assert all(abs(slope) < (0.4 if name == "own experts" else 0.25) for name, slope in found.items()), found


def test_under_adam_updates_do_not_move_with_granularity_if_the_base_stays() -> None:
    """Of the first steps; that the optimum does not move with granularity is not claimed (arXiv:2508.09752)."""

    def measured(granularity: int, seed: int, base: int) -> dict[str, float]:
        return changes(moe_spec(width=64, base_width=64, granularity=granularity, base=(4, 2, base), seed=seed, **ADAM))

    fixed = slopes(FINER, lambda g, seed: measured(g, seed, 1), seeds=2)
    assert all(abs(slope) < 0.25 for slope in fixed.values()), fixed
    own = slopes(FINER, lambda g, seed: measured(g, seed, g), seeds=2)
    assert own["mlp out"] < -0.3  # a base as fine as the target: the sum of the down-projections shrinks


# --- the command ------------------------------------------------------------------------------------------------------

MODEL = ("model=moe", "experts=4", "top_k=2")


def test_the_command_trains_it(tmp_path: Path) -> None:
    result = scalelab("train", *TINY, *MODEL, "granularity=2", "base.granularity=1", f"out={tmp_path}")
    assert result.exit_code == 0, result.output
    assert "top_k=1 of experts=8" in one_line(scalelab("train", *TINY, "model=moe", "experts=8", f"out={tmp_path}"))
