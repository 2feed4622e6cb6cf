"""The files for Megatron-LM: read as text here, and parsed, built and trained by Megatron-LM where it is installed."""

import ast
import fnmatch
import math
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scalelab.errors import Refused
from scalelab.exporters import Handoff, made
from scalelab.exporters.handed import Handed
from scalelab.exporters.megatron_files import ARGS, OVERRIDES
from scalelab.exporters.megatron_parts import NAMES, TIED, planned
from scalelab.parametrizations.table import Role
from scalelab.recipe import Value
from scalelab.spec import RunSpec
from tests.handoff import megatron_lm, recipes
from tests.handoff.recipes import CASES, handoff_of, recipe_of, spec_of
from tests.handoff.training import batches, losses, started, trained

REFUSED = {"mup-scalar-gains": "model.norm_gains=scalar"}
# As swiglu's ffn comes out where it is rounded: a down-projection of another ratio than the other hidden matrices.
UNEVEN: dict[str, Any] = {"sizes": {"ffn": 168}, "base_sizes": {"ffn": 88}}
TAKEN = [*(name for name in CASES if name not in REFUSED), "mup-uneven"]
needs_megatron = pytest.mark.skipif(not megatron_lm.HERE, reason=megatron_lm.MISSING)


def case(name: str) -> RunSpec:
    return spec_of(**UNEVEN) if name == "mup-uneven" else recipes.case(name)


def files_of(spec: RunSpec, **options: str) -> dict[str, str]:
    return dict(made(recipe_of(spec), "megatron", options).files)


def argv_of(files: dict[str, str], folder: Path) -> list[str]:
    """The flags as bash hands them over."""
    (folder / ARGS).write_text(files[ARGS])
    (folder / OVERRIDES).write_text(files[OVERRIDES])
    command = f"source {folder / ARGS}; printf '%s\\n' \"${{SCALELAB_ARGS[@]}}\""
    done = subprocess.run(["bash", "-euc", command], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def flags_of(argv: list[str]) -> dict[str, str]:
    """Each flag with its value, "" for a switch."""
    words = " ".join(argv).removeprefix("--").split(" --")
    return dict([*word.split(" ", 1), ""][:2] for word in words)


def constant(text: str, name: str) -> Any:
    """A constant of the overrides."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise AssertionError(name)


def megatron_names(run: Handoff) -> dict[str, list[Handed]]:
    """Megatron's names of every parameter, local layers', with the tensors of ours that it is."""
    found: dict[str, list[Handed]] = {}
    for each in run.tensors:
        _, block, inner = each.name.split(".", 2) if each.name.startswith("blocks.") else ("", "", each.name)
        names = TIED if each.role is Role.TIED else NAMES[inner]
        name = f"decoder.layers.{block}{names[0][1:]}" if block else names[0].lstrip("*.")
        found.setdefault("decoder.final_layernorm.weight" if inner == "norm.gain" else name, []).append(each)
    return found


# --- what stands in the files


@pytest.mark.parametrize("name", TAKEN)
def test_flags_and_overrides_together_are_the_recipe(name: str, tmp_path: Path) -> None:
    """By Megatron's rules as they are written in its documentation, every parameter has its values, from one entry."""
    spec = case(name)
    run = planned(handoff_of(spec)).run
    files = files_of(spec)
    flags, parts = flags_of(argv_of(files, tmp_path)), constant(files[OVERRIDES], "PARTS")
    ratio = spec.shape.width / int(flags.get("mup-base-hidden-size", spec.shape.width))
    for megatron, ours in megatron_names(run).items():
        (entry,) = [each for each in parts.values() if any(fnmatch.fnmatch(f"module.{megatron}", n) for n in each[0])]
        _, factor, own = entry
        vector, hidden = ".linear_" not in megatron or megatron.endswith(".bias"), ".linear_" in megatron
        matrix = not vector or "embedding" in megatron or "output_layer" in megatron
        by = ratio if hidden and not vector else 1.0
        lr = own.get("max_lr", float(flags["lr"]) / by)
        low = own.get("min_lr", float(flags["min-lr"]) / by)
        wd = own.get("start_wd", float(flags["weight-decay"])) * own.get("wd_mult", 1.0 if matrix else 0.0)
        for index, each in enumerate(ours):
            assert lr == pytest.approx(each.lr) and wd == pytest.approx(each.weight_decay), megatron
            assert low == pytest.approx(each.lr * spec.horizon.final_lr_ratio)
            if each.eps is not None:
                assert own.get("eps", float(flags["adam-eps"]) / by) == pytest.approx(each.eps), megatron
            std = float(flags["init-method-std"]) / math.sqrt(by)
            if "embedding" in megatron or ("output_layer" in megatron and "use-mup" in flags):
                std = float(flags["embedding-init-method-std"])
            if "linear_proj" in megatron or "linear_fc2" in megatron:
                std /= math.sqrt(2 * spec.shape.depth)
            if matrix:
                own_factor = factor[index] if isinstance(factor, tuple) else factor
                assert std * own_factor == pytest.approx(each.init_std), megatron


def test_of_mup_the_flags_say_all_but_weight_decay_eps_elsewhere_and_depth(mup: Handoff, tmp_path: Path) -> None:
    files = files_of(mup.spec)
    flags, parts = flags_of(argv_of(files, tmp_path)), constant(files[OVERRIDES], "PARTS")
    assert {**flags, **WANTED} == flags
    assert parts["attention.query+key+value"] == (("*.self_attention.linear_qkv.weight",), 1, {"wd_mult": 2.0})
    assert parts["embedding"][1:] == (1, {"eps": 5e-7})
    assert parts["attention.output"][1] == pytest.approx(math.sqrt(2 * 3))  # the 1/√(2·layers) of Megatron undone
    for text in files.values():
        words = re.sub(r"[\s#]+", " ", text)
        assert "the weight decay of attention.query+key+value" in words and "one step behind" in words


WANTED = {
    "use-mup": "", "mup-base-hidden-size": "32", "mup-embedding-mult": "1", "mup-output-mult": "0.5",
    "mup-base-head-dim": "16", "lr": "0.01", "min-lr": "0.001", "weight-decay": "0.1", "adam-beta2": "0.95",
    "adam-eps": "1e-06", "global-batch-size": "4", "train-iters": "20", "lr-decay-style": "cosine", "clip-grad": "0",
    "lr-warmup-iters": "4", "swiglu": "", "untie-embeddings-and-output-weights": "", "seed": "1",
    "padded-vocab-size": "256", "norm-epsilon": "1e-06",
}  # fmt: skip


def test_wsd_says_its_fall_is_linear(tmp_path: Path) -> None:
    flags = flags_of(argv_of(files_of(case("mup-wsd")), tmp_path))
    found = [flags[name] for name in ("lr-decay-style", "lr-wsd-decay-style", "lr-wsd-decay-iters")]
    assert found == ["WSD", "linear", "6"]


def test_logits_that_are_multiplied_by_one_do_not_become_one_over_m(tmp_path: Path) -> None:
    heads = {"heads": 4}  # a softmax scale that needs --use-mup
    spec = spec_of(hparams={"logits_multiplier": 2.0}, sizes=heads, base_sizes=heads)  # 2 times 1/m is 1
    flags = flags_of(argv_of(files_of(spec), tmp_path))
    assert (flags["mup-output-mult"], flags["mup-base-hidden-size"]) == ("1", "64")


def test_sp_needs_no_mup(tmp_path: Path) -> None:
    files = files_of(case("sp"))
    assert "use-mup" not in flags_of(argv_of(files, tmp_path))
    assert all(values == {} for _, _, values in constant(files[OVERRIDES], "PARTS").values())


def test_the_table_that_is_megatrons_own_needs_no_overrides(tmp_path: Path) -> None:
    spec = spec_of("megatron", architecture={"residual_init": "depth-scaled"}, sizes={"ffn": 64, "heads": 4},
                   base_sizes={"ffn": 32, "heads": 2}, hparams={"embedding_std": 1 / math.sqrt(32)})  # fmt: skip
    files = files_of(spec)
    assert {repr(entry[1:]) for entry in constant(files[OVERRIDES], "PARTS").values()} == {"(1, {})"}
    assert "The flags alone are the recipe" in files[ARGS]
    assert flags_of(argv_of(files, tmp_path))["mup-base-hidden-size"] == "32"


def test_comments_say_where_numbers_come_from() -> None:
    value = Value(name="weight_decay", value=0.1, low=0.05, high=0.2, source="law", rests_on="3 runs")
    found = made(replace(recipe_of(case("mup")), values=(value,)), "megatron", {}).files[ARGS]
    assert re.search(r"--weight-decay 0.1 +# weight_decay: law, 0.05..0.2; its default is 0.01", found)


def test_groups_that_differ_in_eps_alone_differ_in_what_a_checkpoint_knows() -> None:
    parts = constant(files_of(case("completep"))[OVERRIDES], "PARTS")
    inside, last = parts["attention.norm.gain"][2], parts["norm.gain"][2]
    assert inside == {"eps": 2.5e-7}
    assert last == {"eps": 5e-7, "start_wd": 0.2, "end_wd": 0.2, "wd_mult": 0.0}


def test_zero_queries_are_zero_rows() -> None:
    text = files_of(case("mup-zero"))[OVERRIDES]
    assert constant(text, "PARTS")["attention.query+key+value"][1] == (0, 1, 1)
    assert constant(text, "ROWS") == (16, 16, 16)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (lambda: case("mup-scalar-gains"), "norm_gains=scalar"),
        (lambda: spec_of(architecture={"mlp": "relu"}), "accepted are swiglu, squared_relu, gelu"),
        (lambda: spec_of(architecture={"norm_gains": "none"}, hparams={"clip_norm": 1.0}), "count in the norm"),
        (lambda: spec_of(hparams={"z_loss": 1e-4}), "z_loss=0.0001"),
        (lambda: spec_of(optimizer="muon"), "emerging_optimizers"),
        (lambda: spec_of(optimizer="adafactor"), "optimizer=adafactor"),
        (lambda: spec_of(model="moe", architecture={"mlp": "swiglu"}), "model=moe"),
        (lambda: spec_of(horizon={"warmup_fraction": 1.0}), "shorter than the run"),
        # SGD's rate goes by fan_out/fan_in, and keys have another ratio than queries
        (lambda: spec_of(optimizer="sgd", sizes={"heads": 4, "kv_heads": 2}, base_sizes={"heads": 2, "kv_heads": 2}),
         "lr of attention.query.weight .* one tensor in Megatron"),
    ],
)  # fmt: skip
def test_what_megatron_cannot_say_is_refused(spec: Callable[[], RunSpec], said: str) -> None:
    with pytest.raises(Refused, match=said) as refused:
        files_of(spec())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("micro_batch_size", "3", "divisors of 4"),
        ("tensor_parallel", "8", "divisors of 4"),
        ("pipeline_parallel", "2", "divisors of 3"),
        ("micro_batch_size", "none", "a whole number"),
        ("precision", "fp8", "accepted are recipe, bf16, fp32"),
        ("gpus", "8", "micro_batch_size"),
    ],
)
def test_options_that_do_not_fit_are_refused(option: str, value: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        files_of(case("mup"), **{option: value})


def test_options_are_flags(tmp_path: Path) -> None:
    files = files_of(case("mup"), micro_batch_size="2", tensor_parallel="4", pipeline_parallel="3", precision="bf16")
    flags = flags_of(argv_of(files, tmp_path))
    assert (flags["micro-batch-size"], flags["tensor-model-parallel-size"]) == ("2", "4")
    assert flags["pipeline-model-parallel-size"] == "3" and flags["bf16"] == ""


def test_a_small_eps_is_pointed_out() -> None:
    notes = made(recipe_of(spec_of(hparams={"eps": 1e-9})), "megatron", {}).notes
    assert any("smallest eps is 5e-10" in note for note in notes)
    assert not any("eps" in note for note in made(recipe_of(case("mup")), "megatron", {}).notes)


# --- what Megatron-LM makes of them

REAL = ["mup", "mup-uneven", "mup-multipliers", "mup-grouped-query", "mup-qk-norm", "mup-biases",
        "mup-tied-multipliers", "mup-zero",
        "mup-no-gains", "mup-tied-no-gains", "mup-learned-positions", "mup-gpt-2", "mup-sgd", "mup-wide-heads",
        "completep-multipliers", "completep-biases", "depth-mup", "sp", "mean-field", "ntk"]  # fmt: skip


def real(spec: RunSpec, folder: Path, *, overrides: bool = True) -> megatron_lm.Built:
    argv = argv_of(files_of(spec), folder)
    return megatron_lm.built(argv, folder / OVERRIDES if overrides else None)


@needs_megatron
@pytest.mark.handoff
def test_its_parser_takes_every_flag_and_no_other(tmp_path: Path) -> None:
    for name in TAKEN:
        argv = argv_of(files_of(case(name)), tmp_path)
        args, actions = megatron_lm.parsed(argv), megatron_lm.actions()
        for flag, value in flags_of(argv).items():
            action = actions[f"--{flag}"]
            found = getattr(args, action.dest)
            wanted = action.const if not value else action.type(value) if action.type else value
            assert found == wanted, flag
    with pytest.raises(SystemExit) as left:
        megatron_lm.parsed([*argv, "--lr-warmup-steps", "3"])
    assert left.value.code == 2


@needs_megatron
@pytest.mark.handoff
@pytest.mark.parametrize("name", REAL)
def test_its_model_and_optimizer_have_the_recipes_values(name: str, tmp_path: Path) -> None:
    spec = case(name)
    run, found = planned(handoff_of(spec)).run, real(spec, tmp_path)
    shape, wanted = spec.shape, megatron_names(run)
    rows = (shape.heads // shape.kv_heads * shape.head_dim, shape.head_dim, shape.head_dim)
    drawn: dict[tuple[str, int], list[Tensor]] = {}
    for parameter, groups in found.groups.items():
        (group,) = groups
        if parameter not in wanted:
            assert spec.architecture.norm_gains == "none" and group["max_lr"] == group["min_lr"] == 0, parameter
            continue
        tensor = found.parameters[parameter].detach()
        split = [tensor]
        if "linear_qkv.weight" in parameter:
            split = [each.flatten() for each in tensor.view(-1, sum(rows), shape.width).split(rows, dim=1)]
        for index, each in enumerate(wanted[parameter]):
            assert group["max_lr"] == pytest.approx(each.lr), parameter
            assert group["min_lr"] == pytest.approx(each.lr * spec.horizon.final_lr_ratio), parameter
            assert group["weight_decay"] == pytest.approx(each.weight_decay), parameter
            if each.eps is not None:
                assert group["eps"] == pytest.approx(each.eps), parameter
                assert group["betas"] == pytest.approx((run.beta1, run.beta2))
            if tensor.dim() == 1:
                assert torch.allclose(tensor, torch.full_like(tensor, each.init_mean)), parameter
            else:
                kind = re.sub(r"\.\d+\.", ".", parameter)
                drawn.setdefault((kind, index), []).append(split[index % len(split)] / (each.init_std or 1.0))
                assert bool(each.init_std) == bool(split[index % len(split)].any()), parameter
    for kind, tensors in drawn.items():
        values = torch.cat([each.flatten() for each in tensors])
        if values.any():  # of n draws a standard deviation is known within 1/√(2n)
            assert values.std().item() == pytest.approx(1.0, abs=4.5 / math.sqrt(2 * values.numel())), kind
    known = [tuple(group.get(key) for key in _identifiers()) for group in found.optimizer.param_groups]
    assert len(set(known)) == len(known), "two groups that a checkpoint cannot tell apart"


def _identifiers() -> tuple[str, ...]:
    from megatron.core.optimizer.optimizer import param_group_identifier_keys

    return tuple(param_group_identifier_keys)


@needs_megatron
@pytest.mark.handoff
@pytest.mark.parametrize("name", REAL)
def test_it_trains_as_the_proxies_do(name: str, tmp_path: Path) -> None:
    given = case(name)
    spec = replace(given, horizon=replace(given.horizon, warmup_fraction=0.0))  # warmup lags by a step
    run, network, tokens = planned(handoff_of(spec)).run, started(spec), batches(spec)
    found = real(spec, tmp_path)
    with megatron_lm.on_cpu():
        megatron_lm.in_float64(found)
        filled(found, spec, {n: p.detach().clone() for n, p in network.named_parameters()}, handoff_of(spec), run)
        theirs = trained(found.parameters.values(), found.loss, found.step, tokens)
    ours = losses(network, spec, tokens)
    assert theirs == pytest.approx(ours, abs=1e-11)
    assert max(ours) - min(ours) > 1e-3


def filled(found: megatron_lm.Built, spec: RunSpec, weights: dict[str, Tensor], given: Handoff, run: Handoff) -> None:
    """Our weights in Megatron's model, as many times as large as folding made them."""
    shape, after, before = spec.shape, run.by_name, given.by_name
    rows = (shape.heads // shape.kv_heads * shape.head_dim, shape.head_dim, shape.head_dim)

    def grown(name: str) -> Tensor:
        degree = 1 + after[name].family.degree  # a rate goes by the growth to the power of it
        return weights[name] * (after[name].lr / before[name].lr) ** (1 / degree)

    with torch.no_grad():
        for parameter, tensors in megatron_names(run).items():
            into, parts = found.parameters[parameter], [grown(each.name) for each in tensors]
            if ".linear_qkv." in parameter:
                groups = [part.view(shape.kv_heads, size, -1) for part, size in zip(parts, rows, strict=True)]
                into.copy_(torch.cat(groups, dim=1).reshape(into.shape))
            else:
                into.copy_(torch.cat(parts))


@needs_megatron
@pytest.mark.handoff
def test_without_the_overrides_hidden_weight_decay_is_wrong_by_m(tmp_path: Path) -> None:
    spec = case("mup")
    run, found = handoff_of(spec), real(spec, tmp_path, overrides=False)
    for parameter, tensors in megatron_names(run).items():
        (group,) = found.groups[parameter]
        assert group["max_lr"] == pytest.approx(tensors[0].lr), parameter  # the rate is Megatron's own muP's
        by = 2.0 if tensors[0].role is Role.HIDDEN else 1.0
        assert group["weight_decay"] * by == pytest.approx(tensors[0].weight_decay), parameter


@needs_megatron
@pytest.mark.handoff
@pytest.mark.parametrize("name", ["mup", "mup-wsd", "mup-linear", "mup-constant"])
def test_its_schedule_is_the_proxies_but_for_a_step_of_warmup(name: str, tmp_path: Path) -> None:
    spec = case(name)
    found, horizon = real(spec, tmp_path), spec.horizon
    for step in range(horizon.steps):
        for group in found.optimizer.param_groups:
            factor = group["lr"] / group["max_lr"]
            wanted = horizon.lr_factor(step - 1) if step else 0.0
            assert factor == pytest.approx(wanted if step < horizon.warmup_steps else horizon.lr_factor(step)), step
        found.scheduler.step(increment=found.args.global_batch_size)


@needs_megatron
@pytest.mark.handoff
def test_overrides_of_other_flags_or_another_model_do_not_go_through(tmp_path: Path) -> None:
    argv = argv_of(files_of(case("mup")), tmp_path)
    with pytest.raises(RuntimeError, match="lr: not as in megatron_args"):
        megatron_lm.built([*argv, "--lr", "0.02"], tmp_path / OVERRIDES)
    with pytest.raises(RuntimeError, match=r"q_layernorm.weight is none"):
        megatron_lm.built([*argv, "--qk-layernorm"], tmp_path / OVERRIDES)


@needs_megatron
@pytest.mark.handoff
def test_without_it_a_checkpoint_would_mix_up_two_eps(tmp_path: Path) -> None:
    """Megatron's pairing of saved groups with those of a new run: by rate and weight decay, and eps comes along."""
    from megatron.core.optimizer.optimizer import MegatronOptimizer

    spec = case("completep")
    groups = real(spec, tmp_path).optimizer.param_groups
    plain = [{key: value for key, value in group.items() if key not in ("start_wd", "end_wd")} for group in groups]
    for saved, kept in ((groups, True), (plain, False)):
        paired = MegatronOptimizer._filter_and_reorder_param_groups(saved, [dict(group) for group in saved])
        assert ([group["eps"] for group in paired] == [group["eps"] for group in saved]) is kept
