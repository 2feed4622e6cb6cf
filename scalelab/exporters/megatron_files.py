"""The two files of a plan: the command line as a bash array, and the Python that says what no flag does."""

import textwrap
from collections.abc import Mapping, Sequence

from scalelab.exporters.megatron_flags import Flag
from scalelab.exporters.megatron_parts import GAINS, NAMES, Part, Plan, number

WIDTH = 118
ARGS, OVERRIDES = "megatron_args.sh", "scalelab_overrides.py"

USE = """\
{title}

Checked against megatron-core 0.19.2. To train, in a checkout of Megatron-LM with this folder on PYTHONPATH:
  1. in pretrain_gpt.py, on the line before `pretrain(...)`:
       import scalelab_overrides; scalelab_overrides.install()
  2. source megatron_args.sh
     torchrun --nproc-per-node=8 pretrain_gpt.py "${{SCALELAB_ARGS[@]}}" --data-path ... --tokenizer-type ...
The flags alone are not the recipe: {lacks}
"""

CODE = '''


def merged(given):
    """Megatron's config_overrides with the recipe's, and without what the recipe says otherwise: two values for one
    parameter it refuses."""
    found = {ParamKey(name=names): dict(values) for names, _, values in PARTS.values() if values}
    for key, values in given.items():
        found[apart(key, [names for names, _, own in PARTS.values() if own.keys() & values.keys()])] = values
    return found


def apart(key, taken):
    def matches(parameter, name):
        return key.matches(parameter, name) and not any(fnmatch(name, each) for names in taken for each in names)

    return ParamKey(with_name_predicate=ParamWithNamePredicate(name=f"{key}, the recipe's apart", fn=matches))


@torch.no_grad()
def scale_init(model_chunks):
    """Multiply what Megatron drew: once, of a new model, before its optimizer copies the weights."""
    for chunk in model_chunks:
        for name, parameter in chunk.named_parameters():
            found = [part for part, (names, _, _) in PARTS.items() if any(fnmatch(name, each) for each in names)]
            if len(found) != 1:
                raise RuntimeError(f"{name} is {found or 'none'} of the recipe's parts: this is another model")
            multiply(parameter, PARTS[found[0]][1])


def multiply(parameter, factor):
    if isinstance(factor, tuple):  # of queries, keys and values, which lie together for each group of heads
        groups = parameter.view(-1, sum(ROWS), parameter.shape[-1])
        for rows, each in zip(groups.split(ROWS, dim=1), factor):
            rows.mul_(each)
    elif factor != 1:
        parameter.mul_(factor)


def check(args):
    """The numbers above are ratios to those of the flags: they hold together, or not at all."""
    wrong = [name for name, value in FLAGS.items() if not same(getattr(args, name), value)]
    if wrong:
        raise RuntimeError(f"{', '.join(wrong)}: not as in megatron_args.sh, which these overrides belong to")


def same(one, other):
    return math.isclose(one, other, rel_tol=1e-9) if isinstance(other, float) else one == other


def install():
    """Call it before pretrain(...): the optimizer is then built with the overrides, of weights that are scaled."""
    build = training.get_megatron_optimizer

    def built(config, model_chunks, **rest):
        check(training.get_args())
        scale_init(model_chunks)
        return build(config, model_chunks, **{**rest, "config_overrides": merged(rest["config_overrides"])})

    training.get_megatron_optimizer = built
'''

IMPORTS = """\
import math
from fnmatch import fnmatch

import torch
from megatron.core.optimizer.optimizer_config import ParamKey, ParamWithNamePredicate
from megatron.training import training
"""


def files(plan: Plan, sections: Mapping[str, Sequence[Flag]], notes: Sequence[str]) -> dict[str, str]:
    """Both files by name."""
    head = _head(plan, notes)
    return {ARGS: _args(head, sections), OVERRIDES: _overrides(plan, head)}


def _head(plan: Plan, notes: Sequence[str]) -> str:
    spec, run = plan.run.spec, plan.run
    title = f"{spec.parametrization} with {spec.optimizer}, {spec.shape.width} wide and {spec.shape.depth} deep"
    title += f" from a base of {spec.base.width} and {spec.base.depth}: scalelab recipe {run.digest} for Megatron-LM."
    lacks = [f"{what} of {', '.join(parts)}" for what, parts in _said(plan).items() if parts]
    text = USE.format(title=title, lacks=f"they lack {'; '.join(lacks)}." if lacks else "")
    if not lacks:
        text = text.replace(
            "The flags alone are not the recipe: \n", "The flags alone are the recipe: 1. may be left out.\n"
        )
    text += f"Folded into the weights: {'; '.join(run.folded)}.\n" if run.folded else ""
    return "\n".join(
        "\n".join(textwrap.wrap(line, WIDTH, subsequent_indent="  ", break_long_words=False))
        if len(line) > WIDTH
        else line
        for line in (*text.splitlines(), *(f"Note: {note}." for note in notes))
    )


def _said(plan: Plan) -> dict[str, list[str]]:
    """What the overrides say beside the flags, and of which parts."""
    said: dict[str, list[str]] = {"the init": [], "the learning rate": [], "the weight decay": [], "the eps": []}
    for part, values in zip(plan.parts, plan.overrides(), strict=True):
        name = label(part.ours)
        for what, there in (
            ("the init", _factor(plan, part) != 1),
            ("the learning rate", "max_lr" in values),
            ("the weight decay", "wd_mult" in values and "start_wd" not in values),
            ("the eps", "eps" in values),
        ):
            if there:
                said[what].append(name)
    return said


def label(ours: Sequence[str]) -> str:
    """A part's name in the file: ours, those that are one tensor joined."""
    stem, _, kind = ours[0].rpartition(".")
    module = stem.rpartition(".")[0]
    leaves = "+".join(each.rpartition(".")[0].rpartition(".")[2] for each in ours)
    name = f"{module}.{leaves}" if module else leaves
    return name if kind == "weight" else f"{name}.{kind}"


def _factor(plan: Plan, part: Part) -> float | tuple[float, ...]:
    found = tuple(number(each) for each in plan.factors(part))
    return found if len(found) > 1 else found[0]


def _args(head: str, sections: Mapping[str, Sequence[Flag]]) -> str:
    lines = [f"# {line}".rstrip() for line in head.splitlines()] + ["", "SCALELAB_ARGS=("]
    for section, found in sections.items():
        lines.append(f"  # {section}")
        width = max(len(flag.text) for flag in found if flag.why) if any(flag.why for flag in found) else 0
        lines += [f"  {flag.text:<{width}}  # {flag.why}" if flag.why else f"  {flag.text}" for flag in found]
    return "\n".join([*lines, ")", ""])


def _overrides(plan: Plan, head: str) -> str:
    shape = plan.run.spec.shape
    lines = ['"""' + head, '"""', "", IMPORTS, "# What the numbers below are ratios to.", "FLAGS = {"]
    lines += [f"    {_quoted(name)}: {_quoted(value)}," for name, value in _flags(plan).items()]
    lines += [
        "}",
        f"ROWS = ({shape.heads // shape.kv_heads * shape.head_dim}, {shape.head_dim}, {shape.head_dim})",
        "",
        "# Of each parameter: its names, the factor on what Megatron starts it with, and what its optimizer group has",
        "# beside the flags. Above it the std and the peak learning rate that it comes to.",
        "PARTS = {",
    ]
    for part, values in zip(plan.parts, plan.overrides(), strict=True):
        stds = ", ".join(f"{std:.6g}" for std in dict.fromkeys(part.stds))
        lines.append(f"    # {'' if part.vector else f'std {stds}, '}lr {part.values.lr:.6g}")
        lines += _entry(label(part.ours), part.names, _factor(plan, part), values)
    if plan.run.spec.architecture.norm_gains == "none":
        names = tuple(each for name in GAINS for each in NAMES[name])
        lines.append("    # the proxies had no gains: these stay where they start, at 1")
        lines += _entry("gains", names, 1, {"max_lr": 0.0, "min_lr": 0.0})
    return "\n".join([*lines, "}"]) + CODE


def _entry(name: str, names: Sequence[str], factor: object, values: Mapping[str, float]) -> list[str]:
    own = ", ".join(f"{_quoted(key)}: {_quoted(float(number(value)))}" for key, value in values.items())
    quoted = ", ".join(_quoted(each) for each in names) + ("," if len(names) == 1 else "")
    line = f"    {_quoted(name)}: (({quoted}), {factor!r}, {{{own}}}),"
    if len(line) <= WIDTH:
        return [line]
    inner = [f"        ({quoted}),"]
    if len(inner[0]) > WIDTH:
        inner = ["        (", *(f"            {_quoted(each)}," for each in names), "        ),"]
    return [f"    {_quoted(name)}: (", *inner, f"        {factor!r},", f"        {{{own}}},", "    ),"]


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _flags(plan: Plan) -> dict[str, object]:
    shape = plan.run.spec.shape
    found: dict[str, object] = {
        "num_layers": shape.depth, "hidden_size": shape.width, "use_mup": plan.base_hidden is not None,
        "init_method_std": number(plan.std) + 0.0, "embedding_init_method_std": number(plan.embedding_std) + 0.0,
        "optimizer": "sgd" if plan.eps is None else "adam", "lr": number(plan.lr) + 0.0,
        "min_lr": number(plan.lr * plan.run.horizon.final_lr_ratio) + 0.0,
        "weight_decay": number(plan.weight_decay) + 0.0, "decoupled_lr": None, "weight_decay_incr_style": "constant",
        "no_weight_decay_cond_type": None,
    }  # fmt: skip
    if plan.base_hidden is not None:
        found["mup_base_hidden_size"] = plan.base_hidden
    if plan.eps is not None:
        found["adam_eps"] = number(plan.eps)
    return found
