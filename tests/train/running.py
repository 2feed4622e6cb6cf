"""What the tests of the trainer share: a run with all that it leaves behind, and what it is for two to be the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scalelab import data, train
from scalelab.shape import Architecture
from scalelab.spec import DataSpec, RunSpec
from scalelab.train import Pruner, loop
from scalelab.train.batches import Batches, corpus_of
from scalelab.train.member import SO_FAR, Member, begun
from scalelab.train.population import Population
from scalelab.trials import Trial
from tests.conftest import make_spec

TIMES = ("seconds", "joules")  # what differs from run to run
NARROW = {"width": 16, "depth": 1, "base_width": 16, "base_depth": 1}  # of `make_spec`: a step takes a millisecond


class Recorder:
    """An observer that keeps what it is told, the last word on each step; it stops the whole run at `kill`."""

    def __init__(self, kill: int | None = None) -> None:
        self.told: dict[tuple[int, bool], dict[str, Any]] = {}
        self.kill = kill

    def record(self, values: Mapping[str, Any]) -> None:
        if values["step"] == self.kill:
            raise Killed
        key = values["step"], "validation_loss_nats" in values
        self.told[key] = {name: value for name, value in values.items() if name not in TIMES}

    @property
    def curve(self) -> list[dict[str, Any]]:
        return [self.told[key] for key in sorted(self.told)]


class Killed(Exception):
    """What a test ends a process with."""


@dataclass(frozen=True)
class Ran:
    """A run that has ended: its trial, what was told of it, its last state (None where it never began)."""

    trial: Trial
    curve: list[dict[str, Any]]
    state: dict[str, Any] | None


def run_each(
    specs: Sequence[RunSpec],
    *,
    checkpoints: Sequence[Path] | None = None,
    pruners: Mapping[int, Pruner] | None = None,
    recorders: Sequence[Recorder] | None = None,
    **given: Any,
) -> list[Ran]:
    """`train.run`, and all that it leaves."""
    held: dict[int, Member] = {}

    def keep(index: int, *rest: Any) -> Member:
        held[index] = begun(index, *rest)
        return held[index]

    told = recorders or [Recorder() for _ in specs]
    watches = [
        train.Watch(
            observers=[recorder],
            checkpoint=checkpoints[index] if checkpoints else None,
            pruner=(pruners or {}).get(index),
        )
        for index, recorder in enumerate(told)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "begun", keep)
        trials = train.run(specs, watches=watches, **given)
    return [
        Ran(trial, recorder.curve, held[index].state() if index in held else None)
        for index, (trial, recorder) in enumerate(zip(trials, told, strict=True))
    ]


def alone(spec: RunSpec) -> Ran:
    """The run by itself."""
    (ran,) = run_each([spec], members=1)
    return ran


def assert_same(one: Ran, other: Ran) -> None:
    """That two runs have the same bits: result, curve, weights, moments."""
    for name in ("spec", "outcome", "reason", "loss_nats", "loss_se_nats", "loss_bits_per_byte", "train_loss_nats",
                 "tokens_seen", "cost_flops"):  # fmt: skip
        assert repr(getattr(one.trial, name)) == repr(getattr(other.trial, name)), name
    assert repr(one.curve) == repr(other.curve)  # repr: NaN is not itself
    assert one.state is not None and other.state is not None
    assert_same_state(one.state, other.state)


def assert_same_state(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """That two checkpoints have the same bits, but for the times in them and the trunk that was branched off."""
    for name in {*SO_FAR} - {*TIMES, "trunk", "trunk_steps"}:
        assert repr(one[name]) == repr(other[name]), name
    assert_same_tensors(one["network"], other["network"])
    assert one["optimizer"].keys() == other["optimizer"].keys()
    for name, kept in one["optimizer"].items():
        assert_same_tensors(kept, other["optimizer"][name], of=name)


def assert_same_tensors(one: Mapping[str, Any], other: Mapping[str, Any], *, of: str = "") -> None:
    assert one.keys() == other.keys(), of
    for key, value in one.items():
        if isinstance(value, torch.Tensor):
            nan, others = value.isnan(), other[key].isnan()  # NaN is not itself
            assert torch.equal(nan, others), f"{of} {key}"
            assert torch.equal(value[~nan], other[key][~nan]), f"{of} {key}"
        else:
            assert value == other[key], f"{of} {key}"


def population(specs: Sequence[RunSpec], **given: Any) -> Population:
    """Members at their start."""
    return Population([begun(index, spec, "cpu") for index, spec in enumerate(specs)], **given)


def stepped(trained: Population, steps: int) -> list[list[float]]:
    """Train a population; the losses of each step."""
    spec = trained.spec
    batches = Batches(corpus_of(spec), spec, str(trained.device))
    return [trained.step(batches.at(trained.members))[0].tolist() for _ in range(steps)]


def to_horizon(spec: RunSpec, steps: int, **horizon: Any) -> RunSpec:
    """The same run to another horizon."""
    given = {"tokens": steps * spec.horizon.batch_tokens, **horizon}
    return replace(spec, horizon=replace(spec.horizon, **given))


def digits() -> DataSpec:
    """Images for the networks that see."""
    corpus = data.load("digits")
    return DataSpec(
        name="digits", sha256=corpus.sha256, vocab=corpus.vocab, bytes_per_token=None, validation_tokens=64 * 16
    )


def of_model(model: str, **given: Any) -> RunSpec:
    """A small spec of any model, on data that it can read."""
    if model in ("mlp", "resnet", "vit"):
        heads = 2 if model == "vit" else 1
        sizes = {"vocab": 17, "context": 64, "heads": heads, "kv_heads": heads}
        hparams = {"lr": 0.003, **given.pop("hparams", {})}
        if model != "vit":
            hparams.pop("attention_multiplier", None)
        spec = make_spec(model=model, width=32, data=digits(), sizes=sizes, hparams=hparams, **given)
        return replace(spec, horizon=replace(spec.horizon, tokens=8 * 256, batch_tokens=256))
    if model == "moe":
        given = {"sizes": {"experts": 4, "top_k": 2}, **given}
    if model == "u_mup":
        given["hparams"] = {"lr": 0.5, **given.get("hparams", {})}
        return make_spec("u_mup", width=32, architecture=Architecture(mlp="swiglu", norm_gains="none"), **given)
    return make_spec(model=model, width=32, **given)
