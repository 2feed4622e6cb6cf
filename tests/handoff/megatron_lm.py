"""Megatron-LM's own code around an export, on a CPU: its parser, model, optimizer and scheduler, built as it does.

Of `setup_model_and_optimizer` all is Megatron's but the wrapper that reduces gradients, which needs CUDA.
"""

import argparse
import importlib.util
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

HERE = importlib.util.find_spec("megatron") is not None
RANDOM = "megatron.core.tensor_parallel.random"
MISSING = "megatron-core is not installed: tests/handoff/install.sh VENV"
# What a CPU without Transformer Engine and Apex needs, and the data that no recipe knows.
CPU = (
    "--transformer-impl=local", "--use-cpu-initialization", "--no-rope-fusion", "--no-persist-layer-norm",
    "--no-gradient-accumulation-fusion", "--no-masked-softmax-fusion", "--no-bias-swiglu-fusion",
    "--no-bias-dropout-fusion", "--tokenizer-type=NullTokenizer", "--mock-data",
)  # fmt: skip


class OnCpu(TorchFunctionMode):
    """Tensors that Megatron makes on "cuda", whatever there is, are made on the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if str(given.get("device")).startswith("cuda"):
            given["device"] = "cpu"
        return func(*args, **given)


@contextmanager
def on_cpu() -> Iterator[None]:
    """Megatron without a GPU, its warnings of what is not installed not errors."""
    with warnings.catch_warnings(), mock.patch.object(torch.cuda, "current_device", return_value="cpu"), OnCpu():
        warnings.simplefilter("ignore")
        yield


class Wrapped(nn.Module):
    """In place of Megatron's wrapper: the same names, its options, gradients where its optimizer looks for them."""

    def __init__(self, module: nn.Module, ddp_config: Any) -> None:
        super().__init__()
        self.module, self.ddp_config, self.config = module, ddp_config, module.config


@dataclass(frozen=True)
class Built:
    """A run as Megatron set it up."""

    args: Any
    model: Wrapped
    optimizer: Any
    scheduler: Any

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {name.removeprefix("module."): each for name, each in self.model.named_parameters()}

    @property
    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """The optimizer groups of every parameter, by its name."""
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in self.parameters}
        names = {id(each): name for name, each in self.parameters.items()}
        for group in self.optimizer.param_groups:
            for each in group["params"]:
                found[names[id(each)]].append(group)
        return found

    def loss(self, ids: Tensor) -> Tensor:
        """Mean cross-entropy of ids [B, context + 1], in the logits' precision."""
        length = ids.shape[1] - 1
        mask = torch.ones(length, length, dtype=torch.bool).triu(1)[None, None]
        places = torch.arange(length).expand(ids.shape[0], -1)
        # Its dropout, which is 0, has a generator on the GPU.
        with mock.patch(f"{RANDOM}.CudaRNGStatesTracker.fork", return_value=nullcontext()):
            logits = self.model.module(ids[:, :-1], places, mask)
        return nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    def step(self, index: int) -> None:
        """A step of optimizer and scheduler, in the order of Megatron's train_step."""
        for each in self.parameters.values():
            each.main_grad = each.grad  # type: ignore[attr-defined]
        assert self.optimizer.step()[0]
        self.scheduler.step(increment=self.args.global_batch_size)


def parsed(argv: Sequence[str]) -> Any:
    """The arguments as Megatron's own parser has them; it exits on one that it does not know."""
    with on_cpu(), mock.patch.object(sys, "argv", ["pretrain_gpt.py", *argv]):
        from megatron.training.arguments import parse_args

        return parse_args()


def actions() -> dict[str, argparse.Action]:
    """What its parser knows of every flag."""
    with on_cpu():
        from megatron.training.arguments import add_megatron_arguments

        return dict(add_megatron_arguments(argparse.ArgumentParser())._option_string_actions)


def built(argv: Sequence[str], overrides: Path | None) -> Built:
    """A run by its command line, with scalelab_overrides.py installed (None: by the flags alone)."""
    with on_cpu(), mock.patch.dict("os.environ", {"CUDA_DEVICE_MAX_CONNECTIONS": "1"}):
        import megatron.training.training as training
        from megatron.core.enums import ModelType
        from megatron.core.num_microbatches_calculator import destroy_num_microbatches_calculator
        from megatron.training import global_vars
        from megatron.training.arguments import validate_args

        _distributed()
        global_vars.destroy_global_vars()
        destroy_num_microbatches_calculator()
        args = parsed([*argv, *CPU])
        with mock.patch("builtins.print"):
            validate_args(args)
        global_vars.set_global_variables(args)
        with (
            mock.patch.object(training, "get_model", side_effect=lambda *_, **__: [Wrapped(_model(args), _ddp(args))]),
            mock.patch.object(training, "get_megatron_optimizer", training.get_megatron_optimizer),
        ):
            if overrides is not None:
                module(overrides).install()
            (model,), optimizer, scheduler = training.setup_model_and_optimizer(None, ModelType.encoder_or_decoder)
        return Built(args, model, optimizer, scheduler)


def module(path: Path) -> Any:
    """The overrides as an import finds them."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def in_float64(run: Built) -> None:
    """The model in float64, its rotary angles too."""
    run.model.double()
    rotary = getattr(run.model.module, "rotary_pos_emb", None)
    if rotary is not None:
        half = torch.arange(0, run.args.kv_channels, 2, dtype=torch.float64) / run.args.kv_channels
        rotary.inv_freq = 1.0 / run.args.rotary_base**half


def _distributed() -> None:
    from megatron.core import parallel_state

    if not torch.distributed.is_initialized():
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        parallel_state.initialize_model_parallel()


def _ddp(args: Any) -> Any:
    import megatron.training.training as training

    return training.get_megatron_ddp_config(args)


def _model(args: Any) -> nn.Module:
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.training.arguments import core_transformer_config_from_args

    model: nn.Module = GPTModel(
        core_transformer_config_from_args(args),
        get_gpt_layer_local_spec(qk_layernorm=args.qk_layernorm, normalization=args.normalization),
        args.padded_vocab_size,
        args.max_position_embeddings,
        share_embeddings_and_output_weights=not args.untie_embeddings_and_output_weights,
        position_embedding_type=args.position_embedding_type,
        rotary_percent=args.rotary_percent,
        rotary_base=args.rotary_base,
    )
    return model
