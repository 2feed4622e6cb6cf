"""Memory: what a population takes, and what happens where it is not enough."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scalelab import train
from scalelab.train import loop
from scalelab.train.population import Population
from tests.conftest import make_spec
from tests.train.running import NARROW, alone, assert_same, population, run_each, stepped, to_horizon

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError("Unable to allocate 1.00 TiB for an array"),
]


class Small:
    """A machine that takes `most` members, and says so at the third step of a population."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int, error: Exception) -> None:
        self.sizes: list[int] = []
        step = Population.step

        def limited(trained: Population, tokens_MBT: Tensor) -> Any:
            if not self.sizes or self.sizes[-1] != len(trained.members):
                self.sizes.append(len(trained.members))
            if len(trained.members) > most and trained.members[0].step >= 3:
                raise error
            return step(trained, tokens_MBT)

        monkeypatch.setattr(Population, "step", limited)


def specs_of(count: int = 5) -> list[Any]:
    return [to_horizon(make_spec(**NARROW, seed=seed), 6 + seed % 2) for seed in range(count)]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__ + str(error)[:12])
def test_half_as_many_are_trained_where_memory_does_not_suffice(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = specs_of()
    expected = [alone(spec) for spec in specs]
    small = Small(monkeypatch, 2, error)
    for before, after in zip(expected, run_each(specs, members=5), strict=True):
        assert_same(before, after)
    assert small.sizes[:2] == [5, 2] and max(small.sizes[1:]) == 2


def test_runs_go_on_from_what_is_saved_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = specs_of(4)
    expected = [alone(spec) for spec in specs]
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    Small(monkeypatch, 1, ERRORS[0])
    begins: list[int] = []
    held = loop.begun

    def watched(index: int, spec: Any, device: str, state: Any = None) -> Any:
        begins.append(0 if state is None else state["step"])
        return held(index, spec, device, state)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "begun", watched)
        train.run(specs, watches=[train.Watch(checkpoint=tmp_path / f"{i}.pt") for i in range(4)], members=4)
    assert begins[:4] == [0] * 4 and begins[4:] and min(begins[4:]) == 3
    paths = [tmp_path / f"again {i}.pt" for i in range(4)]
    for before, after in zip(expected, run_each(specs, checkpoints=paths, members=4), strict=True):
        assert_same(before, after)


def test_at_one_member_it_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small(monkeypatch, 0, ERRORS[0])
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        run_each(specs_of(3), members=3)
    assert small.sizes == [3, 1]


def test_a_size_that_no_population_had_is_not_halved_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's usual number is in the hundreds, whoever there is to train."""
    tries = []

    def never(trained: Population, tokens_MBT: Tensor) -> Any:
        tries.append(len(trained.members))
        raise ERRORS[0]

    monkeypatch.setattr(Population, "step", never)
    with pytest.raises(torch.OutOfMemoryError):
        run_each(specs_of(2), members=256)
    assert tries == [2, 1]


def test_another_error_is_raised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small(monkeypatch, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        run_each(specs_of(3), members=3)
    assert small.sizes == [3]


# --- how much it takes ------------------------------------------------------------------------------------------------


def tensors(found: Any) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        yield found
        if found.grad is not None:
            yield found.grad
    elif isinstance(found, dict):
        for each in found.values():
            yield from tensors(each)


def held_bytes(trained: Population) -> int:
    """Bytes of all storages that hold values, gradients and moments, each once."""
    found = list(trained.stack.parameters()) if isinstance(trained.stack, torch.nn.Module) else []
    for member in trained.members:
        found += [*member.network.parameters()]
        found += [tensor for optim in member.optims for state in optim.state.values() for tensor in tensors(state)]
    if trained.optimizer is not None:
        found += [*trained.optimizer.first.values(), *trained.optimizer.second.values()]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for each in found for t in tensors(each)}
    return sum(storages.values())


@pytest.mark.parametrize("broadcast", [False, True])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_members_take_no_more_than_as_many_runs(optimizer: str, broadcast: bool) -> None:
    specs = [make_spec(**NARROW, optimizer=optimizer, hparams={"momentum": 0.9}, seed=seed) for seed in range(6)]
    sizes = {}
    for count in (1, 6):
        trained = population(specs[:count], broadcast=broadcast)
        stepped(trained, 2)
        sizes[count] = held_bytes(trained)
    weights = sum(p.numel() for p in population(specs[:1]).members[0].network.parameters()) * 4
    assert sizes[1] >= 2 * weights  # values and moments are seen
    assert sizes[6] <= 1.1 * 6 * sizes[1]
    assert sizes[1] <= 4.1 * weights  # values, gradients, two moments
