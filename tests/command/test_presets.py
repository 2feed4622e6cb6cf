"""conf/trainer: the command lines of trainers that there are, against what those accept."""

import argparse
import json
import math
import os
import re
from pathlib import Path

import pytest

from scalelab.command import Place, check, rendered
from scalelab.command.reading import source_of
from scalelab.composing import as_mapping, composed_from
from scalelab.config import spec_from_config
from scalelab.errors import Refused
from scalelab.spec import RunSpec

FOLDER = Path("/runs/study/run")
MEGATRON = (
    "trainer=megatron", "data=external", "data.dataset=fineweb@1", "data.vocab=50304", "context=1024",
    "batch_tokens=65536", "tokens=6553600", "width=1024", "depth=12", "base.width=256", "base.depth=12", "head_dim=64",
    "model.residual_init=depth-scaled", "model.mlp_ratio=4", "weight_decay_policy=constant",
    "optimizer.weight_decay=0.1", "dtype=bfloat16", "init.embedding_std=0.02", "init.gain=0.32", "schedule=wsd",
    "final_lr_ratio=0.1",
)  # fmt: skip
TITAN = (
    "trainer=torchtitan", "data=external", "data.dataset=fineweb@1", "data.vocab=2048", "context=128",
    "batch_tokens=1024", "tokens=10240", "width=128", "base.width=64", "optimizer.clip_norm=1e6",
)  # fmt: skip
PLAIN = (
    "trainer=plain", "data=external", "data.dataset=x", "data.vocab=256", "model.mlp=gelu", "model.norm_gains=none",
    "model.positions=learned", "model.mlp_ratio=4",
)  # fmt: skip

# As megatron-core 0.19.2's own parser has them (megatron/training/arguments.py, add_megatron_arguments).
MEGATRON_FLAGS = {
    int: "num-layers hidden-size num-attention-heads num-query-groups ffn-hidden-size kv-channels seq-length"
         " max-position-embeddings vocab-size mup-base-hidden-size train-iters global-batch-size lr-decay-iters"
         " lr-warmup-iters lr-wsd-decay-iters seed log-interval eval-interval save-interval",
    float: "attention-dropout hidden-dropout mup-base-head-dim mup-embedding-mult init-method-std lr min-lr"
           " embedding-init-method-std weight-decay adam-beta1 adam-beta2 adam-eps clip-grad",
    str: "save load",
    bool: "group-query-attention swiglu disable-bias-linear untie-embeddings-and-output-weights use-mup bf16"
          " exit-signal-handler",
}  # fmt: skip
MEGATRON_CHOICES = {
    "normalization": ("LayerNorm", "RMSNorm"),
    "position-embedding-type": ("learned_absolute", "rope", "yarn", "mrope", "relative", "none"),
    "optimizer": ("adam", "sgd", "muon", "dist_muon", "lion", "soap", "adaptive_muon"),
    "lr-decay-style": ("constant", "linear", "cosine", "inverse-square-root", "WSD"),
    "lr-wsd-decay-style": ("exponential", "linear", "cosine", "minus_sqrt"),
}
# As torchtitan 0.3.0's Trainer.Config has them.
TITAN_FLAGS = {
    "module", "config", "dump_folder", "training.steps", "training.global_batch_size", "training.seq_len",
    "training.max_norm", "lr_scheduler.warmup_steps", "lr_scheduler.decay_ratio", "lr_scheduler.decay_type",
    "lr_scheduler.min_lr_factor", "debug.seed", "checkpoint.enable", "checkpoint.no-last-save-model-only",
    "validator.enable", "validator.freq", "metrics.log_freq", "metrics.disable_color_printing",
}  # fmt: skip


def spec_of(*overrides: str) -> RunSpec:
    return spec_from_config(as_mapping(composed_from(list(overrides))))


def argv(*overrides: str) -> tuple[str, ...]:
    return rendered(spec_of(*overrides), Place(folder=FOLDER, threads=8)).argv


def megatron_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for kind, names in MEGATRON_FLAGS.items():
        for name in names.split():
            if kind is bool:
                parser.add_argument(f"--{name}", action="store_true")
            else:
                parser.add_argument(f"--{name}", type=kind)
    for name, choices in MEGATRON_CHOICES.items():
        parser.add_argument(f"--{name}", choices=choices)
    return parser


def test_megatron_accepts_its_command() -> None:
    program, processes, script, *flags = argv(*MEGATRON)
    assert (program, processes, script) == ("torchrun", "--nproc-per-node=8", "pretrain_gpt.py")
    found = megatron_parser().parse_args(flags)
    spec = spec_of(*MEGATRON)
    assert (found.num_layers, found.hidden_size, found.ffn_hidden_size) == (12, 1024, 4096)
    assert (found.global_batch_size, found.train_iters, found.lr_warmup_iters) == (64, 100, 10)
    assert (found.lr_decay_style, found.lr_wsd_decay_style, found.lr_wsd_decay_iters) == ("WSD", "linear", 20)
    assert (found.lr, found.min_lr) == (spec.hparams.lr, spec.hparams.lr / 10)
    assert (found.adam_beta2, found.weight_decay, found.adam_eps) == (0.95, 0.1, 1e-8)
    assert found.init_method_std == pytest.approx(0.02) and found.embedding_init_method_std == 0.02
    assert (found.mup_base_hidden_size, found.mup_base_head_dim, found.seed) == (256, 64, 1)
    assert found.use_mup and found.untie_embeddings_and_output_weights and found.bf16


def test_megatrons_softmax_scale_is_the_tables() -> None:
    found = megatron_parser().parse_args(argv(*MEGATRON, "head_dim=128", "base.head_dim=32")[3:])
    spec = spec_of(*MEGATRON, "head_dim=128", "base.head_dim=32")
    from scalelab.resolve import multipliers

    # √(base head_dim)/head_dim, transformer_config.py on mup_base_head_dim
    assert math.sqrt(found.mup_base_head_dim) / found.kv_channels == pytest.approx(multipliers(spec).attention)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("weight_decay_policy=table", "does not move weight decay with width"),
        ("parametrization=sp", "it is to be mup"),
        ("depth=24", "no rule for depth"),
        ("model.tied_head=true", "the model of these flags"),
        ("model.residual_init=plain", "set model.residual_init"),
        ("model.readout_init=fan_in", "--use-mup sets both"),
        ("optimizer=muon", "its Muon needs"),
        ("dtype=float32", "dtype=float32 with this command: accepted are bfloat16"),
        ("base.ffn=1000", "one ratio for all hidden matrices"),
        ("multipliers.logits=2", "has no flags for them"),
        ("optimizer.clip_norm=null", "has no value in this run"),
    ],
)
def test_what_megatron_cannot_express_is_refused(override: str, said: str) -> None:
    kept = [each for each in MEGATRON if not (override == "optimizer=muon" and each.startswith("optimizer."))]
    with pytest.raises(Refused, match=said):
        check(spec_of(*kept, override), FOLDER)


def read(spec: RunSpec, tmp_path: Path, lines: str) -> list[tuple[int | None, float | None, float | None]]:
    assert spec.command is not None
    (tmp_path / "log").write_text(lines)
    source = source_of(spec.command.reading, tmp_path / "log", bytes_per_token=None)
    return [(seen.step, seen.loss, seen.validation_loss) for seen in source.new(last=True)]


def test_what_megatron_prints_is_read(tmp_path: Path) -> None:
    # The formats of megatron/training/training.py, training_log and evaluate_and_print_results.
    start = " [2026-11-29 12:00:00.000000] iteration       10/     100 | consumed samples:          640 |"
    rest = " loss scale: 1.0 | grad norm: 1.2 | number of skipped iterations:   0 | number of nan iterations:   {} |\n"
    logged = start + " learning rate: 1.000000E-03 | global batch size:    64 |"
    found = read(spec_of(*MEGATRON), tmp_path, (
        logged + " lm loss: 9.500000E+00 |" + rest.format(0)
        + " validation loss at iteration 100 | lm loss value: 3.250000E+00 | lm loss PPL: 2.579034E+01 | \n"
        + " validation loss at iteration 100 on validation set | lm loss value: 3.240000E+00 | lm loss PPL: 2.5E+1 | \n"
        + " validation loss at iteration 100 on test set | lm loss value: 9.990000E+00 | lm loss PPL: 2.5E+1 | \n"
        + logged + rest.format(3)
    ))  # fmt: skip
    assert found[:3] == [(10, 9.5, None), (100, None, 3.25), (100, None, 3.24)]
    assert len(found) == 4 and math.isnan(found[3][1] or 0)


def test_torchtitan_accepts_its_command() -> None:
    words = argv(*TITAN)
    at = words.index("torchtitan.train")
    assert words[:2] == ("torchrun", "--nproc-per-node=8")
    flags = dict(word.removeprefix("--").partition("=")[::2] for word in words[at + 1 :])
    assert flags.keys() == TITAN_FLAGS
    assert (flags["training.steps"], flags["training.global_batch_size"], flags["training.seq_len"]) == (
        "10",
        "8",
        "128",
    )
    assert (flags["lr_scheduler.decay_ratio"], flags["lr_scheduler.decay_type"]) == ("None", "linear")
    wsd = argv(*TITAN, "schedule=wsd")
    assert "--lr_scheduler.decay_ratio=0.2" in wsd and "--lr_scheduler.decay_type=linear" in wsd


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimizer.clip_norm=1.0", "set optimizer.clip_norm=1e6"),
        ("base.head_dim=16", "its softmax scale is 1/√head_dim"),
        ("schedule=constant", "accepted are cosine, linear, wsd"),
        ("multipliers.residual=2", "it has no such multipliers"),
        ("model.qk_norm=true", "Llama 3's model"),
    ],
)
def test_what_torchtitan_cannot_express_is_refused(override: str, said: str) -> None:
    kept = [each for each in TITAN if each.partition("=")[0] != override.partition("=")[0]]
    with pytest.raises(Refused, match=said):
        check(spec_of(*kept, override), FOLDER)


def test_what_torchtitan_prints_is_read(tmp_path: Path) -> None:
    found = read(spec_of(*TITAN), tmp_path, (
        "[rank0]:[titan] 2026 - root - INFO - step:  1  loss:  8.12345  grad_norm:  1.0  memory:  1GiB(1.00%)\n"
        "[rank0]:[titan] 2026 - root - INFO - validate step: 10  loss:  7.1234  memory:  1GiB(1.00%)  tps: 1\n"
    ))  # fmt: skip
    assert found == [(1, 8.12345, None), (10, None, 7.1234)]


def test_the_real_torchtitan_builds_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = pytest.importorskip("torchtitan.config", reason="torchtitan is not installed").ConfigManager()
    found = rendered(spec_of(*TITAN), Place(folder=tmp_path))
    (tmp_path / "groups.json").write_text(found.groups)
    monkeypatch.setenv("SCALELAB_GROUPS", found.env["SCALELAB_GROUPS"])
    monkeypatch.syspath_prepend(found.env["PYTHONPATH"])
    config = manager.parse_args(list(found.argv[found.argv.index("torchtitan.train") + 1 :]))
    values = json.loads(found.groups)["values"]
    import torch

    with torch.device("meta"):
        model = config.model_spec.model.build()
    assert sum(each.numel() for each in model.parameters()) == values["params_total"]
    for name, _ in model.named_parameters():
        group = next(each for each in config.optimizer.param_groups if re.search(each.pattern, name))
        if "w2" in name:
            assert group.optimizer_kwargs["lr"] == values["lr.hidden.mlp_down"]


def test_the_plain_example_is_what_its_configuration_says() -> None:
    words = argv(*PLAIN)
    script = Path(words[1])
    assert script.is_file() and os.path.basename(script) == "train.py"
    flags = {word.partition("=")[0] for word in words[2:]}
    for flag in flags:
        assert f'"{flag.removeprefix("--")}"' in script.read_text() or f'"{flag}"' in script.read_text(), flag
    with pytest.raises(Refused, match="that is its model"):
        check(spec_of(*PLAIN, "model.mlp=swiglu"), FOLDER)
    with pytest.raises(Refused, match="it has no weight decay"):
        check(spec_of(*PLAIN, "optimizer.weight_decay=0.1"), FOLDER)
