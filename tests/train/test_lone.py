"""Somebody else's network: it has no member dimension, and is trained by itself."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scalelab import networks
from scalelab.networks import Proxy, build
from scalelab.networks.transformer import Transformer
from scalelab.spec import RunSpec
from scalelab.train.population import Lone, Population, stacks
from tests.conftest import make_spec
from tests.train.running import NARROW, alone, assert_same, population, run_each, to_horizon


class Foreign(nn.Module):
    """The parameters of the transformer under their names, and nothing else of a proxy but the two losses."""

    def __init__(self, spec: RunSpec) -> None:
        super().__init__()
        inner = Transformer(spec)
        self.__dict__["inner"] = inner  # not a submodule: the names would change
        for name, child in inner.named_children():
            self.add_module(name, child)

    def tuned(self, spec: RunSpec) -> None:
        self.__dict__["inner"].tuned(spec)

    def loss(self, tokens_BT: Tensor) -> Tensor:
        assert tokens_BT.dim() == 2
        found: Tensor = self.__dict__["inner"].loss(tokens_BT)
        return found

    def losses(self, tokens_BT: Tensor) -> Tensor:
        assert tokens_BT.dim() == 2
        found: Tensor = self.__dict__["inner"].losses(tokens_BT)
        return found


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many members each population has."""
    found: list[int] = []
    step = Population.step

    def counted(self: Population, tokens_MBT: Tensor) -> Any:
        found.append(len(self.members))
        return step(self, tokens_MBT)

    monkeypatch.setattr(Population, "step", counted)
    return found


def specs_of() -> list[RunSpec]:
    hparams: list[dict[str, Any]] = [
        {},
        {"clip_norm": None, "logits_multiplier": 2.0},
        {"weight_decay": 0.0},
    ]
    return [to_horizon(make_spec(**NARROW, hparams=each, seed=seed), 6 + seed) for seed, each in enumerate(hparams)]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_a_foreign_network_is_trained_alone_with_the_bits_of_the_same_proxy(
    optimizer: str, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [to_horizon(make_spec(**NARROW, optimizer=optimizer, seed=seed), 6 + seed) for seed in range(3)]
    expected = [alone(spec) for spec in specs]
    sizes.clear()
    monkeypatch.setitem(networks.NETWORKS, "transformer", Foreign)
    assert not isinstance(build(specs[0]), Proxy) and not stacks(build(specs[0]))
    for before, after in zip(expected, run_each(specs, members=4), strict=True):
        assert_same(before, after)
    assert set(sizes) == {1}


def test_two_of_them_are_no_population(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.NETWORKS, "transformer", Foreign)
    assert isinstance(population(specs_of()[:1]).stack, Lone)
    assert population(specs_of()[:1], broadcast=True).optimizer is None
    with pytest.raises(RuntimeError, match="trained alone"):
        population(specs_of())


def test_a_foreign_network_that_diverges_leaves_those_after_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = specs_of()
    specs[1] = make_spec(**NARROW, optimizer="adamw", hparams={"lr": 1e30, "clip_norm": None})
    expected = [alone(spec) for spec in specs]
    monkeypatch.setitem(networks.NETWORKS, "transformer", Foreign)
    for before, after in zip(expected, run_each(specs, members=2), strict=True):
        assert_same(before, after)
    assert torch.get_num_threads() == 1
