"""The trainer and the network it trains: the same bits each time, the arithmetic by hand, what a divergence leaves."""

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from scalelab import data, train
from scalelab.data.corpus import train_batch
from scalelab.models import inventory
from scalelab.networks import build
from scalelab.networks.transformer import Transformer, rope_tables, rotate
from scalelab.optim import hand_over, optimizers, set_lr
from scalelab.parametrizations import TABLES, Family, Role
from scalelab.scale import Power
from scalelab.shape import Architecture
from scalelab.spec import RunSpec, as_plain
from scalelab.train import batches, member
from scalelab.trials import Outcome, Trial
from tests.conftest import make_spec

Bits = tuple[float | None, list[dict[str, Any]], dict[str, torch.Tensor]]


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.curve: list[dict[str, Any]] = []

    def record(self, values: Mapping[str, Any]) -> None:
        self.curve.append({name: value for name, value in values.items() if name != "seconds"})


Networks = dict[str, nn.Module]


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> Networks:
    """The networks that the trainer builds, by their runs' fingerprints; after a run, as it left them."""
    built: Networks = {}

    def keep(spec: RunSpec, device: str = "cpu") -> nn.Module:
        built[spec.fingerprint] = build(spec, device)
        return built[spec.fingerprint]

    monkeypatch.setattr(member, "build", keep)
    return built


def run_each(specs: list[RunSpec], networks: Networks) -> list[Bits]:
    """Train a list of specs: for each its loss, its curve without times, its final weights."""
    recorders = [Recorder() for _ in specs]
    trials = train.run(specs, watches=[train.Watch(observers=[recorder]) for recorder in recorders])
    return [
        (trial.loss_nats, recorder.curve, dict(networks[trial.spec.fingerprint].state_dict()))
        for trial, recorder in zip(trials, recorders, strict=True)
    ]


def assert_same_bits(one: Bits, other: Bits) -> None:
    assert one[0] == other[0]
    assert one[1] == other[1]
    assert one[2].keys() == other[2].keys()
    for name, value in one[2].items():
        assert torch.equal(value, other[2][name]), name


# --- one run ----------------------------------------------------------------------------------------------------------


def test_two_runs_of_a_spec_give_the_same_bits_whatever_the_global_seed(networks: Networks) -> None:
    spec = make_spec()
    torch.manual_seed(1)
    (one,) = run_each([spec], networks)
    torch.manual_seed(2)
    (other,) = run_each([spec], networks)
    assert_same_bits(one, other)
    assert len(one[1]) == spec.horizon.steps


def test_another_seed_gives_other_weights_and_other_data(networks: Networks) -> None:
    one, other = run_each([make_spec(seed=0), make_spec(seed=1)], networks)
    assert one[0] != other[0]
    assert not torch.equal(one[2]["embedding.weight"], other[2]["embedding.weight"])


def test_a_run_does_not_depend_on_what_is_trained_beside_it(networks: Networks) -> None:
    specs = [make_spec(width=32), make_spec("sp", width=64, seed=3), make_spec(width=32, optimizer="sgd")]
    forward = run_each(specs, networks)
    backward = run_each(specs[::-1], networks)[::-1]
    (alone,) = run_each(specs[1:2], networks)
    for one, other in zip(forward, backward, strict=True):
        assert_same_bits(one, other)
    assert_same_bits(forward[1], alone)


def test_the_loss_falls_on_the_embedded_corpus() -> None:
    recorder = Recorder()
    (trial,) = train.run([make_spec(width=32, tokens=64 * 150)], watches=[train.Watch(observers=[recorder])])
    assert trial.outcome is Outcome.OK
    assert recorder.curve[0]["loss_nats"] > math.log(256) - 0.1
    assert trial.loss_nats is not None and trial.loss_nats < 3.6  # a uniform guess: 5.5; the unigram entropy: 3.1
    assert trial.train_loss_nats == recorder.curve[-1]["loss_nats"]
    assert trial.tokens_seen == 64 * 150 and trial.cost_flops == trial.spec.cost_flops


def test_a_curve_has_at_most_about_a_hundred_points_and_its_last_step() -> None:
    recorder = Recorder()
    spec = make_spec(width=32, tokens=64 * 250)
    train.run([spec], watches=[train.Watch(observers=[recorder])])
    assert 100 <= len(recorder.curve) <= 2 * member.LOG_POINTS
    assert recorder.curve[-1]["step"] == spec.horizon.steps - 1
    assert all(at["tokens"] == at["step"] * 64 for at in recorder.curve)
    assert all(at["lr"] == spec.hparams.lr * spec.horizon.lr_factor(at["step"]) for at in recorder.curve)


@pytest.mark.parametrize("optimizer_name", ["adamw", "sgd"])
def test_clipping_changes_a_run_where_it_is_active_and_only_there(optimizer_name: str, networks: Networks) -> None:
    specs = [make_spec(width=32, optimizer=optimizer_name, hparams={"clip_norm": c}) for c in (None, 1e6, 0.1)]
    without, loose, tight = run_each(specs, networks)
    assert_same_bits(without, loose)
    assert tight[0] != without[0]


def test_clipping_bounds_the_norm_of_one_sgd_step(networks: Networks) -> None:
    # One step of plain SGD under SP moves the weights by lr × the clipped gradient.
    hparams = {"clip_norm": 0.05, "lr": 0.5, "weight_decay": 0.0, "momentum": 0.0}
    spec = make_spec("sp", width=32, optimizer="sgd", tokens=64, hparams=hparams)
    start = build(spec).state_dict()
    ((_, _, end),) = run_each([spec], networks)
    squares = sum(float((end[name] - value).double().square().sum()) for name, value in start.items())
    lr = spec.hparams.lr * spec.horizon.lr_factor(0)
    assert math.sqrt(squares) == pytest.approx(0.05 * lr, rel=1e-3)


def finite(plain: Any) -> bool:
    if isinstance(plain, dict):
        return all(map(finite, plain.values()))
    if isinstance(plain, list):
        return all(map(finite, plain))
    return not isinstance(plain, float) or math.isfinite(plain)


@pytest.mark.parametrize(
    ("optimizer_name", "hparams", "why"),
    [
        ("sgd", {"lr": 1e30, "clip_norm": None}, "training loss"),
        ("adamw", {"lr": 30.0}, "validation loss"),
    ],
)
def test_a_diverged_run_is_a_result_and_leaves_the_others_alone(
    optimizer_name: str, hparams: dict[str, Any], why: str, networks: Networks
) -> None:
    good = make_spec(width=32)
    bad = make_spec("sp", width=32, optimizer=optimizer_name, hparams=hparams)
    (alone,) = train.run([good])
    first, diverged, last = train.run([good, bad, replace(good, seed=1)])
    assert diverged.outcome is Outcome.DIVERGED
    assert diverged.reason is not None and why in diverged.reason
    assert diverged.loss_nats is None and diverged.loss_bits_per_byte is None
    assert finite(as_plain(diverged))
    assert 0 < diverged.tokens_seen <= bad.horizon.tokens
    assert diverged.cost_flops == round(bad.cost_flops * diverged.tokens_seen / bad.horizon.tokens)
    assert first.loss_nats == alone.loss_nats
    assert last.outcome is Outcome.OK


def test_a_z_loss_does_not_hide_a_divergence() -> None:
    bad = make_spec("sp", width=32, hparams={"lr": 30.0, "z_loss": 10.0})
    assert train.run([bad])[0].outcome is Outcome.DIVERGED


def test_a_corpus_that_is_not_the_specs_is_an_error_and_not_a_result() -> None:
    spec = make_spec(width=32)
    with pytest.raises(RuntimeError, match="the spec was made for 000000000000"):
        train.run([replace(spec, data=replace(spec.data, sha256="0" * 64))])


# --- every kind of network --------------------------------------------------------------------------------------------

KINDS: dict[str, dict[str, Any]] = {
    "gelu": {},
    "swiglu": {"architecture": Architecture(mlp="swiglu")},
    "relu": {"architecture": Architecture(mlp="relu")},
    "sgd": {"optimizer": "sgd", "hparams": {"lr": 0.1, "momentum": 0.9}},
    "tied": {"architecture": Architecture(mlp="gelu", tied_head=True)},
    "grouped queries": {"sizes": {"heads": 4, "kv_heads": 2}},
    "QK-norm": {"architecture": Architecture(qk_norm=True)},
    "biases": {"architecture": Architecture(biases=True)},
    "no gains": {"architecture": Architecture(norm_gains="none")},
    "zero readout": {"architecture": Architecture(zero_init_readout=True)},
    "zero query": {"architecture": Architecture(zero_init_query=True)},
    "depth-scaled": {"architecture": Architecture(residual_init="depth-scaled")},
    "everything": {
        "architecture": Architecture(
            qk_norm=True, biases=True, tied_head=True, zero_init_query=True, residual_init="depth-scaled"
        ),
        "sizes": {"heads": 2, "kv_heads": 1},
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_network_learns_and_moves_every_parameter(kind: str, networks: Networks) -> None:
    spec = make_spec(width=64, tokens=64 * 30, **KINDS[kind])
    start = dict(build(spec).named_parameters())
    ((loss, curve, end),) = run_each([spec], networks)
    assert loss is not None and loss < curve[0]["loss_nats"]
    for name, value in start.items():
        assert torch.isfinite(end[name]).all(), name
        assert not torch.equal(end[name], value), f"{name} did not move"


def test_a_zero_readout_starts_at_the_entropy_of_a_uniform_guess() -> None:
    recorder = Recorder()
    train.run(
        [make_spec(architecture=Architecture(zero_init_readout=True), tokens=64)],
        watches=[train.Watch(observers=[recorder])],
    )
    assert recorder.curve[0]["loss_nats"] == pytest.approx(math.log(256), abs=1e-6)


def test_a_later_token_does_not_change_earlier_logits() -> None:
    network = build(make_spec(width=64, architecture=Architecture(qk_norm=True), sizes={"heads": 4, "kv_heads": 2}))
    tokens = torch.arange(32).reshape(2, 16)
    changed = tokens.clone()
    changed[:, 9] = 200
    with torch.no_grad():
        before, after = network(tokens), network(changed)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.allclose(before[:, 9:], after[:, 9:])


def test_sequences_of_a_batch_do_not_see_each_other() -> None:
    network = build(make_spec(width=64))
    tokens = torch.arange(48).reshape(3, 16)
    changed = tokens.clone()
    changed[1] = 7
    with torch.no_grad():
        before, after = network(tokens), network(changed)
    assert torch.equal(before[0], after[0]) and torch.equal(before[2], after[2])


def test_rotary_scores_depend_on_the_distance_only() -> None:
    context, head_dim = 24, 16
    query, key = torch.randn(2, head_dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cos, sin = (table.double() for table in rope_tables(context, head_dim))
    q_TK = rotate(query.expand(context, 1, head_dim), (cos, sin))[:, 0]
    k_TK = rotate(key.expand(context, 1, head_dim), (cos, sin))[:, 0]
    scores = q_TK @ k_TK.T
    for distance in range(context):
        along = scores.diagonal(-distance)
        assert torch.allclose(along, along[0], atol=1e-5), distance
    firsts = torch.stack([scores[distance, 0] for distance in range(context)])
    assert firsts.std() > 0.1  # and it does depend on it
    assert scores[0, 0].item() == pytest.approx(float(query @ key))


def test_grouped_queries_are_heads_with_repeated_keys_and_values() -> None:
    grouped = build(make_spec(width=64, sizes={"heads": 4, "kv_heads": 2}))
    full = build(make_spec(width=64, sizes={"heads": 4, "kv_heads": 4}))
    state = dict(grouped.state_dict())
    for name, value in state.items():
        if ".key." in name or ".value." in name:
            per_head = value.unflatten(0, (2, 16))
            state[name] = per_head.repeat_interleave(2, dim=0).flatten(0, 1)
    full.load_state_dict(state)
    tokens = torch.arange(32).reshape(2, 16)
    with torch.no_grad():
        assert torch.allclose(grouped(tokens), full(tokens), atol=1e-5)


# --- parametrizations in training -------------------------------------------------------------------------------------


def tables(optimizer: str, architecture: Architecture) -> list[str]:
    """The tables that are stated against a base and have a rule for every tensor of that transformer; "sp" first."""
    sp = make_spec("sp", optimizer=optimizer, architecture=architecture)
    needed = {(tensor.role, sp.kind.family_of(tensor.role)) for tensor in inventory(sp)}
    return [name for name, table in TABLES.items() if not table.unit_scaled and needed <= table.rules.keys()]


@pytest.mark.parametrize("optimizer_name", ["adamw", "sgd"])
@pytest.mark.parametrize("architecture", [Architecture(), Architecture(tied_head=True, biases=True, qk_norm=True)])
def test_at_the_base_every_table_trains_the_same_network_bit_for_bit(
    optimizer_name: str, architecture: Architecture, networks: Networks
) -> None:
    names = tables(optimizer_name, architecture)
    assert names[0] == "sp" and {"mup", "completep"} < set(names)
    specs = [make_spec(name, width=32, depth=2, optimizer=optimizer_name, architecture=architecture) for name in names]
    sp, *others = run_each(specs, networks)
    for other in others:
        assert_same_bits(sp, other)


def test_away_from_the_base_two_tables_train_alike_where_they_are_forms_of_one_and_only_there() -> None:
    """Two tables are forms of one where they fold to the same cells, as TP-V's Tables 3, 8 and 9 do.

    Without clipping: a form decides how much each gradient adds to the global norm.
    """
    names = tables("adamw", Architecture(mlp="gelu"))
    given = {"hparams": {"clip_norm": None}, "base_tokens": 320}
    specs = [make_spec(name, width=64, depth=4, **given) for name in names]
    roles = {tensor.role for tensor in inventory(specs[0])}
    groups: dict[object, dict[str, float]] = {}
    for name, trial in zip(names, train.run(specs), strict=True):
        folded = TABLES[name].folded()
        form = (*(folded.rule(role, Family.ADAM) for role in sorted(roles)), *sorted(folded.sites.items()),
                folded.one_minus_beta)  # fmt: skip
        assert trial.loss_nats is not None
        groups.setdefault(form, {})[name] = trial.loss_nats
    assert any({"mup", "mup_table_3", "mup_table_9"} <= losses.keys() for losses in groups.values())
    for losses in groups.values():
        assert list(losses.values()) == pytest.approx([min(losses.values())] * len(losses), abs=1e-6)
    assert len({min(losses.values()) for losses in groups.values()}) == len(groups)


@pytest.mark.parametrize("optimizer_name", ["adamw", "sgd"])
def test_groups_keep_their_ratios_under_the_schedule(optimizer_name: str) -> None:
    spec = make_spec("completep", width=128, depth=8, optimizer=optimizer_name)
    (optim,) = optimizers(build(spec), spec)
    peaks = [group["peak_lr"] for group in optim.param_groups]
    assert len(set(peaks)) > 1
    for step in range(spec.horizon.steps):
        factor = spec.horizon.lr_factor(step)
        set_lr([optim], factor)
        assert [group["lr"] for group in optim.param_groups] == [peak * factor for peak in peaks]


def test_the_trainer_steps_at_the_schedules_learning_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[float]] = []

    def watched(network: nn.Module, spec: RunSpec, **rest: Any) -> list[torch.optim.Optimizer]:
        (optim,) = optimizers(network, spec, **rest)
        step = optim.step
        monkeypatch.setattr(
            optim, "step", lambda: (seen.append([group["lr"] for group in optim.param_groups]), step())[1]
        )
        return [optim]

    monkeypatch.setattr(member, "optimizers", watched)
    spec = make_spec("mup", width=128)
    train.run([spec])
    assert len(seen) == spec.horizon.steps
    ratio = seen[0][0] / seen[0][1]
    for step, lrs in enumerate(seen):
        assert max(lrs) == pytest.approx(spec.hparams.lr * spec.horizon.lr_factor(step))
        assert lrs[0] / lrs[1] == pytest.approx(ratio)


# --- the validation loss ----------------------------------------------------------------------------------------------


def by_hand(network: nn.Module, spec: RunSpec) -> list[float]:
    """Mean loss of each validation sequence, from the definition."""
    corpus, context = data.load("embedded"), spec.shape.context
    count, available = spec.data.validation_tokens // context, (corpus.val.size - 1) // context
    each = []
    for index in range(count):
        start = (index * available // count) * context
        window = np.asarray(corpus.val[start : start + context + 1], dtype=np.int64)
        with torch.no_grad():
            logits = network(torch.from_numpy(window[None, :-1]))[0].double()
        log_p = logits - logits.logsumexp(dim=-1, keepdim=True)
        each.append(float(-log_p[torch.arange(context), torch.from_numpy(window[1:])].mean()))
    return each


def test_the_validation_loss_is_what_its_definition_says(networks: Networks) -> None:
    spec = make_spec(width=32)
    (trial,) = train.run([spec])
    each = by_hand(networks[spec.fingerprint], spec)
    assert trial.loss_nats == pytest.approx(np.mean(each), abs=1e-6)
    assert trial.loss_se_nats == pytest.approx(np.std(each, ddof=1) / math.sqrt(len(each)), abs=1e-6)


def test_it_does_not_depend_on_how_it_is_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = train.run([make_spec(width=32)])
    monkeypatch.setattr(batches, "VALIDATION_SEQUENCES", 3)
    (other,) = train.run([make_spec(width=32)])
    assert one.loss_nats is not None
    assert other.loss_nats == pytest.approx(one.loss_nats, abs=1e-6)


@pytest.mark.parametrize("bytes_per_token", [1.0, 4.2, None])
def test_bits_per_byte(bytes_per_token: float | None) -> None:
    spec = make_spec(width=32, tokens=64)
    trial: Trial
    (trial,) = train.run([replace(spec, data=replace(spec.data, bytes_per_token=bytes_per_token))])
    assert trial.loss_nats is not None
    expected = None if bytes_per_token is None else trial.loss_nats / math.log(2) / bytes_per_token
    assert trial.loss_bits_per_byte == (None if expected is None else pytest.approx(expected))


# --- the derived SGD cells of CompleteP -------------------------------------------------------------------------------

DEPTHS = (2, 4, 8, 16)
BRANCH = 0.5  # branches small enough that the stream's own growth over the blocks stays out of the slope


def one_step_slope(parametrization: str) -> float:
    """d log2 |Δ residual stream| / d log2 depth after one SGD step of the blocks alone, at a small learning rate."""
    sizes = []
    for depth in DEPTHS:
        of_depth = []
        for seed in range(2):
            spec = make_spec(
                parametrization, width=32, depth=depth, optimizer="sgd", seed=seed,
                hparams={"lr": 1e-3, "weight_decay": 0.0, "clip_norm": None, "residual_multiplier": BRANCH},
            )  # fmt: skip
            network = build(spec)
            assert isinstance(network, Transformer)
            batch = torch.from_numpy(train_batch(data.load("embedded"), seed=seed, step=0, sequences=8, context=16))
            seen: list[torch.Tensor] = []
            network.norm.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(inputs[0]))
            (optim,) = optimizers(network, spec)
            for group in optim.param_groups:
                group["lr"] *= all(name.startswith("blocks.") for name in group["names"])
            network.loss(batch).backward()  # type: ignore[no-untyped-call]
            optim.step()
            with torch.no_grad():
                network.loss(batch)
            of_depth.append((seen[1] - seen[0]).abs().mean().item())
        sizes.append(np.mean(of_depth))
    return float(np.polyfit(np.log2(DEPTHS), np.log2(sizes), 1)[0])


@pytest.mark.parametrize(("name", "alpha"), [("completep", Fraction(1)), ("completep_half", Fraction(1, 2))])
def test_the_sgd_depth_exponent_keeps_the_update_of_the_residual_stream(
    name: str, alpha: Fraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    lr = TABLES[name].rule(Role.HIDDEN, Family.SGD).lr
    assert isinstance(lr, Power) and lr.exponent("depth") == 2 * alpha - 1
    assert abs(one_step_slope(name)) < 0.15
    for off in (Fraction(1, 2), Fraction(-1, 2)):
        rules = {
            (role, family): replace(rule, lr=rule.lr * Power(depth=off)) if role is Role.HIDDEN else rule
            for (role, family), rule in TABLES[name].rules.items()
        }
        monkeypatch.setitem(TABLES, "edited", replace(TABLES[name], name="edited", rules=rules))
        assert one_step_slope("edited") == pytest.approx(float(off), abs=0.2)


def test_steps_are_in_order() -> None:
    recorder = Recorder()
    train.run([make_spec(width=32)], watches=[train.Watch(observers=[recorder])])
    assert all(a["step"] < b["step"] for a, b in pairwise(recorder.curve))


# --- changing hands ---------------------------------------------------------------------------------------------------


def test_what_stays_with_adamw_keeps_its_moments_when_muon_takes_the_matrices() -> None:
    spec = make_spec(optimizer="adamw_muon", schedule="wsd", width=64)
    network = build(spec)
    before, after = optimizers(network, spec), optimizers(network, spec, then=True)
    network.loss(torch.arange(34).reshape(2, 17)).backward()
    before[0].step()
    hand_over(before, after)
    muon, adamw = after
    assert not muon.state
    kept = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert {id(p) for p in adamw.state} == kept
    assert all(adamw.state[p]["step"] == 1 for p in adamw.state)


def test_positions_beside_a_tied_table_start_as_it_does() -> None:
    network = build(make_spec(width=64, base_width=64, architecture=Architecture(tied_head=True, positions="learned")))
    stds = {name: p.std().item() for name, p in network.named_parameters()}
    assert stds["positions.weight"] == pytest.approx(stds["embedding.weight"], rel=0.1)
    assert stds["embedding.weight"] == pytest.approx(1 / 8, rel=0.1)
