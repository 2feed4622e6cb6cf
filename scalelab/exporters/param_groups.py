"""For any PyTorch code: every tensor's values in JSON, and a file beside it that needs torch and nothing else."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scalelab.errors import Refused
from scalelab.exporters import fold
from scalelab.exporters.exporter import Export, Exporter, check_kinds
from scalelab.exporters.handed import Handed, Handoff
from scalelab.exporters.texts import json_text
from scalelab.models.tensors import NORM_EPS
from scalelab.models.transformer import ROPE_THETA

TORCH = {"adamw": "AdamW", "sgd": "SGD"}  # optimizers of which torch has the same
DECAY = {
    "adamw": "lr*weight_decay: a step first multiplies a parameter by 1 − lr·weight_decay, with the lr of that step",
    "sgd": "gradient: weight_decay times the parameter is added to its gradient, before momentum",
}
SOURCE = Path(__file__).with_name("param_groups_file.py")


def write(given: Handoff, options: Mapping[str, str]) -> Export:
    """`param_groups.json` and `param_groups.py`."""
    check_kinds(given, "param_groups", models=("transformer", "moe"), optimizers=TORCH)
    if options["fold"] not in ("true", "false"):
        raise Refused(f"fold={options['fold']}: accepted are true, false")
    run = fold.folded(given) if options["fold"] == "true" else given
    notes = (*fold.notes(run), *_notes(run))
    text = json_text(record(run, notes))
    code = f"# {run.provenance}\n{SOURCE.read_text()}"
    return Export(files={"param_groups.json": text, "param_groups.py": code}, notes=notes)


def record(run: Handoff, notes: Iterable[str] = ()) -> dict[str, Any]:
    """All of a run in plain types."""
    spec, horizon, hparams = run.spec, run.horizon, run.spec.hparams
    return {
        "kind": "scalelab parameter groups",
        "version": 1,
        "provenance": run.provenance,
        "recipe": run.digest,
        "optimizer": {
            "name": TORCH[spec.optimizer],
            **({"beta1": run.beta1, "beta2": run.beta2} if "beta1" in spec.kind.reads else {}),
            **({"momentum": hparams.momentum} if "momentum" in spec.kind.reads else {}),
            "weight_decay_convention": DECAY[spec.optimizer],
        },
        "groups": groups(run),
        "run": {
            "tokens": horizon.tokens,
            "batch_tokens": horizon.batch_tokens,
            "context": spec.shape.context,
            "steps": horizon.steps,
            "schedule": horizon.schedule,
            "warmup_steps": horizon.warmup_steps,
            "decay_start": horizon.decay_start,
            "min_lr_ratio": horizon.final_lr_ratio,
            "clip_norm": run.clip_norm,
            "z_loss": hparams.z_loss,
            **({"balance_loss": hparams.balance_loss} if spec.model == "moe" else {}),
            "dtype_of_matrix_products": spec.dtype,
            "seed": spec.seed,
        },
        "network": {
            "model": spec.model,
            "parametrization": spec.parametrization,
            "target": spec.shape.as_dict(),
            "base": spec.base.as_dict(),
            "head_dim": spec.shape.head_dim,
            "norm": "RMSNorm before attention, before the MLP and before the readout",
            "norm_eps": NORM_EPS,
            **({"rope_theta": ROPE_THETA} if spec.architecture.positions == "rotary" else {}),
            **asdict(spec.architecture),
        },
        "forward": {
            "softmax_scale": run.attention,
            "residual_multiplier": run.residual,
            "embedding_multiplier": run.embedding,
            "folded": list(run.folded),
        },
        "notes": list(notes),
    }


def groups(run: Handoff) -> list[dict[str, Any]]:
    """Tensors of the same values together, in forward order; each tensor is matched by one pattern of one group."""
    alike: dict[tuple[object, ...], list[Handed]] = {}
    for each in run.tensors:
        alike.setdefault(_values(each), []).append(each)
    chosen, found = run.recipe.lr, []
    for tensors in alike.values():
        one = tensors[0]
        found.append(
            {
                "role": str(one.role),
                "family": str(one.family),
                "patterns": patterns([each.name for each in tensors], [each.name for each in run.tensors]),
                "tensors": len(tensors),
                "elements": sum(each.tensor.numel for each in tensors),
                "init_mean": one.init_mean,
                "init_std": one.init_std,
                "multiplier": one.multiplier,
                "lr": one.lr,
                "lr_low": one.lr * chosen.low / chosen.value,
                "lr_high": one.lr * chosen.high / chosen.value,
                "min_lr_ratio": run.horizon.final_lr_ratio,
                "weight_decay": one.weight_decay,
                "weight_decay_convention": DECAY[run.spec.optimizer].partition(":")[0],
                "betas": [run.beta1, run.beta2] if "beta1" in run.spec.kind.reads else None,
                "eps": one.eps,
            }
        )
    return found


def patterns(names: Iterable[str], everything: Iterable[str]) -> list[str]:
    r"""Regular expressions that match the names, all of each, and no other of `everything`.

    >>> patterns(["blocks.0.up.weight", "blocks.1.up.weight"], ["blocks.0.up.weight", "blocks.1.up.weight"])
    ['blocks\\.\\d+\\.up\\.weight']
    """
    mine, found = list(names), []
    rest = set(everything) - set(mine)
    for name in mine:
        general = re.sub(r"\\\.\d+\\\.", lambda _: r"\.\d+\.", re.escape(name))
        alone = any(re.fullmatch(general, other) for other in rest)
        found.append(re.escape(name) if alone else general)
    return list(dict.fromkeys(found))


def _values(each: Handed) -> tuple[object, ...]:
    return (
        each.role, each.family, each.tensor.in_block, each.init_mean, each.init_std, each.multiplier, each.lr,
        each.weight_decay, each.eps,
    )  # fmt: skip


def _notes(run: Handoff) -> Iterable[str]:
    hparams = run.spec.hparams
    if not run.folded and (forward := _forward(run)):
        yield f"nothing is folded, so the forward pass must have every group's multiplier, and {', '.join(forward)}"
    if hparams.z_loss:
        yield f"the training loss has {hparams.z_loss:g} · mean(logsumexp(logits)²) beside the cross-entropy"
    if run.spec.model == "moe":
        yield f"the training loss has load balancing beside the cross-entropy, times {hparams.balance_loss:g}"


def _forward(run: Handoff) -> list[str]:
    return [
        f"a softmax scale of {run.attention:.6g}",
        f"{run.residual:.6g} times every residual branch",
        f"{run.embedding:.6g} times the token embedding",
    ]


EXPORTER = Exporter(
    title="param_groups.json and param_groups.py: groups, init, schedule for any PyTorch code",
    checked="torch 2.13: 20 steps in float64 of our network and of a plain transformer without multipliers",
    write=write,
    options={"fold": ("true", "multipliers go into the weights; false: your forward pass must have them")},
    expresses="everything",
    folds="with fold=true every multiplier: embedding, residual branch, softmax scale, the tensors' own",
    refuses="optimizers other than adamw and sgd; folds that have no equivalent (a tied head without a last gain)",
)
