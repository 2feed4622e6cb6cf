"""A plan and how its runs ended, as JSON types: what `train --json` answers with."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from scalelab.models import count_params
from scalelab.plan import Plan, PlannedRun
from scalelab.spec import RunSpec
from scalelab.trials import TRIAL_FILE


def before(
    planned: Plan,
    missing: Sequence[PlannedRun],
    *,
    core_seconds: Callable[[RunSpec], float],
    notes: Sequence[str],
) -> dict[str, Any]:
    """What would be run: every run with its size and cost, and the sums over those to do.

    Core-seconds are an estimate, None where a command trains.
    """
    to_do = {run.spec.fingerprint for run in missing}
    rows = [_row(run, to_do, core_seconds) for run in planned.runs]
    left = [row for row in rows if row["to_do"]]
    known = all(row["core_seconds_about"] is not None for row in left)
    return {
        "runs": rows,
        "runs_to_do": len(left),
        "tokens_to_do": sum(row["tokens"] for row in left),
        "cost_flops_to_do": sum(row["cost_flops"] for row in left),
        "core_seconds_to_do_about": sum(row["core_seconds_about"] for row in left) if known else None,
        "notes": list(notes),
    }


def after(planned: Plan) -> dict[str, Any]:
    """How every run ended, with its loss; `outcome` is None of one that has not ended."""
    rows: list[dict[str, Any]] = []
    for run in planned.runs:
        trial = run.folder.read() if (run.folder.path / TRIAL_FILE).exists() else None
        rows.append(
            {
                "fingerprint": run.spec.fingerprint,
                "folder": str(run.folder.path),
                "outcome": None if trial is None else trial.outcome.value,
                "loss_nats": None if trial is None else trial.loss_nats,
                "cost_flops": None if trial is None else trial.cost_flops,
                "reason": None if trial is None else trial.reason,
            }
        )
    ended = [row["outcome"] for row in rows if row["outcome"] is not None]
    counts = {outcome: ended.count(outcome) for outcome in dict.fromkeys(ended)}
    return {"runs": rows, "outcomes": counts, "runs_not_ended": len(rows) - len(ended)}


def _row(run: PlannedRun, to_do: Collection[str], core_seconds: Callable[[RunSpec], float]) -> dict[str, Any]:
    spec = run.spec
    return {
        "fingerprint": spec.fingerprint,
        "folder": str(run.folder.path),
        "to_do": spec.fingerprint in to_do,
        "parametrization": spec.parametrization,
        "optimizer": spec.optimizer,
        "width": spec.shape.width,
        "depth": spec.shape.depth,
        "params_non_embedding": count_params(spec).non_embedding,
        "tokens": spec.horizon.tokens,
        "batch_tokens": spec.horizon.batch_tokens,
        "lr": spec.hparams.lr,
        "weight_decay": spec.hparams.weight_decay,
        "seed": spec.seed,
        "cost_flops": spec.cost_flops,
        "core_seconds_about": None if spec.command is not None else core_seconds(spec),
        "overrides": list(run.task_overrides),
    }
