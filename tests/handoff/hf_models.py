"""The files of the hf exporter as transformers reads them: its models, exact in float64, and scalelab_hf imported."""

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scalelab.exporters import export
from scalelab.exporters.hf_classes import CLASSES, adapted, chosen, theirs
from scalelab.networks import Proxy
from scalelab.spec import RunSpec
from tests.handoff.recipes import handoff_of, recipe_of
from tests.handoff.training import grown_state, rope_tables, trained

transformers = pytest.importorskip("transformers")
FILES = ("scalelab_hf", "param_groups")


@contextmanager
def exported(spec: RunSpec, folder: Path, **options: str) -> Iterator[ModuleType]:
    """The written scalelab_hf.py, imported where it lies."""
    export(recipe_of(spec), "hf", folder, options)
    sys.path.insert(0, str(folder))
    try:
        importlib.invalidate_caches()
        yield importlib.import_module("scalelab_hf")
    finally:
        sys.path.remove(str(folder))
        for name in FILES:
            sys.modules.pop(name, None)


def model_in(folder: Path) -> Any:
    """The model of config.json."""
    return transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder))


def exact(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a model compute in float64 what transformers computes in float32 whatever the model is in."""
    context, head_dim = model.config.max_position_embeddings, model.config.head_dim
    cos, sin = (table.squeeze(1).unsqueeze(0) for table in rope_tables(context, head_dim))

    def normed(self: Any, x: Tensor) -> Tensor:
        rate = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon)
        return torch.as_tensor(self.weight * x * rate)

    for kind in {type(module) for module in model.modules()}:
        if kind.__name__.endswith("RMSNorm"):
            monkeypatch.setattr(kind, "forward", normed)
        elif kind.__name__.endswith("RotaryEmbedding"):
            monkeypatch.setattr(kind, "forward", lambda self, x, position_ids: (cos, sin))


def load(model: nn.Module, network: Proxy, spec: RunSpec, asked: str = "auto") -> None:
    """Give a model our weights, grown as its class needs them."""
    given = handoff_of(spec)
    run, held = adapted(given, CLASSES[chosen(spec.architecture, asked)])
    state = {theirs(name): value for name, value in grown_state(network, given, run).items()}
    for name in held:
        each = run.by_name[name]
        state[theirs(name)] = torch.full(each.tensor.stored, each.init_mean, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(state.pop(name))
    assert not state, f"not in the model: {state.keys()}"


def follow(scalelab_hf: ModuleType, model: Any, spec: RunSpec, tokens: Sequence[Tensor]) -> list[float]:
    """Losses of a training with the file's optimizer and schedule."""
    return stepped(model, spec, tokens, *scalelab_hf.create_optimizer_and_scheduler(model))


def stepped(model: Any, spec: RunSpec, tokens: Sequence[Tensor], optimizer: Any, scheduler: Any) -> list[float]:
    """Losses of a training with an optimizer and a schedule."""

    def step(_: int) -> None:
        if spec.hparams.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), spec.hparams.clip_norm)
        optimizer.step()
        scheduler.step()

    return trained(model.parameters(), nats_of(model), step, tokens)


def nats_of(model: Any) -> Callable[[Tensor], Tensor]:
    """The loss of ids [B, context + 1], which transformers' own would round to float32."""
    return lambda ids: F.cross_entropy(model(input_ids=ids[:, :-1]).logits.flatten(0, 1), ids[:, 1:].flatten())
