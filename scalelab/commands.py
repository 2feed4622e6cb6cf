"""`train` as the command line runs it: plan, show what it will cost, launch, say how it ended. Checks: `checks`."""

import os
from collections.abc import Callable, Sequence
from functools import partial

from rich.console import Console

from scalelab import plan_json, show
from scalelab.answering import Answer, no_answer
from scalelab.command import Place, shown
from scalelab.composing import Multirun
from scalelab.data import load
from scalelab.data.corpus import epochs
from scalelab.engines import engine_of
from scalelab.errors import Refused
from scalelab.launch import launch, run_hydra
from scalelab.models import MODELS, count_flops_per_token, count_params
from scalelab.overrides import split_flags
from scalelab.plan import Plan, PlannedRun, plan, swept
from scalelab.progress import watched
from scalelab.resolve import moves_with_horizon
from scalelab.spec import RunSpec
from scalelab.stopping import Stopped
from scalelab.trials import Outcome
from scalelab.workers.pool import warm

# Sustained training FLOP/s of one core on proxies by width, measured on an AMD EPYC (AVX2) core with torch 2.13; for
# the time in a plan only, which says "about" (benchmarks/step.py measures yours; four fifths of that in a whole run).
CORE_FLOPS_BY_WIDTH = {32: 25e9, 64: 42e9, 128: 55e9, 256: 66e9, 512: 70e9}
# Answered by Hydra; nothing is planned or run.
HYDRA_QUESTIONS = ("--cfg", "-c", "--info", "-i", "--hydra-help", "--shell-completion")
ROWS = 40  # of a plan that is shown in full
COMMANDS = 2  # of a plan, as they would be typed


def execute(arguments: Sequence[str], *, dry_run: bool, console: Console, answer: Answer = no_answer) -> int:
    """Plan and launch what the arguments ask for; the exit status is 0 when every run has its trial.

    `answer` is given the plan where nothing is to be run, and else how the runs ended.
    """
    if any(argument.split("=")[0] in HYDRA_QUESTIONS for argument in arguments):
        if answer is not no_answer:
            raise Refused("--json with a question to Hydra, which answers in its own way: leave one of them out")
        run_hydra(arguments)
        return 0
    overrides, multirun, directories = split_flags(arguments)
    asked = swept(overrides, directories) if multirun else None
    if asked is not None and asked.is_elsewhere and not dry_run:
        engine_of(asked.common.hydra.launcher)  # refuses before anything is planned or written
    if asked is not None and asked.is_search:
        at_work = partial(launch, overrides, multirun=True, directories=directories)
        return search(asked, at_work, console=console, dry_run=dry_run, answer=answer)
    if asked is not None and not dry_run and asked.is_fused:
        warm()  # workers import torch while the runs are planned
    planned = plan(overrides, multirun=multirun, directories=directories, dry=dry_run)
    missing = planned.missing  # looked up on disk: once for the plan on screen, the progress and the answer
    print_plan(planned, missing, console, rows=ROWS if dry_run else 0)
    if dry_run:
        notes = _warnings([run.spec for run in planned.runs])
        answer(plan_json.before(planned, missing, core_seconds=estimated_seconds, notes=notes))
        return 0
    if not missing:
        answer(plan_json.after(planned))
        return 0
    for run in missing:
        run.folder.announce(run.spec)
    failed = ""
    with watched([(run.spec, run.folder) for run in missing], console):
        try:
            launch(overrides, multirun=multirun, directories=directories, planned=planned)
        except Stopped:
            raise
        except SystemExit as ended:  # Hydra has reported a failed job; the others are done and kept
            if isinstance(ended.code, Refused):  # by an engine
                raise ended.code from None
            failed = " (see the error above)" if ended.code else ""
    counts = planned.outcomes()
    said = ", ".join(
        f"{count} {outcome or 'not ended (here, or running in another process)'}" for outcome, count in counts.items()
    )
    console.print(f"{len(planned.runs)} runs: {said}{failed}", highlight=False)
    answer(plan_json.after(planned))
    return 0 if set(counts) <= {Outcome.OK, Outcome.DIVERGED} else 1


def search(
    asked: Multirun, launched: Callable[[], None], *, console: Console, dry_run: bool, answer: Answer = no_answer
) -> int:
    """The same for a search, which `launched` runs; the exit status is 0 when it went to its end."""
    from scalelab.search import outlook  # Optuna: not needed for anything else
    from scalelab.search.problem import problem_of

    problem = problem_of(asked, dry=dry_run)
    before = outlook.outlook(problem)
    outlook.show_outlook(before, console)
    seeds = len(problem.tuning_seeds)
    least, most = (before.left * seeds * estimated_seconds(spec) for spec in (before.cheapest, before.dearest))
    if before.cheapest.command is None:
        show.say(console, f"about {least:,.0f} to {most:,.0f} core-seconds, by which runs are asked for")
    else:
        show.say(console, f"of the cheapest: {shown(before.cheapest, Place(folder=problem.folder / 'RUN'))}")
    for text in _warnings([before.cheapest, before.dearest]):
        console.print(f"note: {text}", style="yellow", highlight=False)
    if dry_run:
        answer(outlook.as_plain(before) | {"core_seconds_about": [least, most]})
        return 0
    if before.left or before.tests_left:
        try:
            launched()
        except Stopped:
            raise
        except SystemExit as ended:
            if isinstance(ended.code, Refused):  # what could not be known before
                raise ended.code from None
            if ended.code:  # Hydra has said why
                answer(outlook.result_as_plain(problem) | {"went_to_its_end": False})
                return 1
    else:
        show.say(console, "nothing is left to run")
    went_to_its_end = outlook.show_result(problem, console)
    answer(outlook.result_as_plain(problem) | {"went_to_its_end": went_to_its_end})
    return 0 if went_to_its_end else 1


def print_plan(planned: Plan, missing: Sequence[PlannedRun], console: Console, *, rows: int) -> None:
    """What is about to be run and what it costs; `rows` runs one by one, what follows beside what was asked."""
    if rows:
        _print_runs(planned.runs, missing, console, rows)
        for run in [run for run in planned.runs if run.spec.command is not None][:COMMANDS]:
            show.say(console, f"{run.spec.fingerprint}: {shown(run.spec, Place(folder=run.folder.path))}")
    specs, to_do = ([run.spec for run in runs] for runs in (planned.runs, missing))
    flops = sum(spec.cost_flops for spec in to_do)
    seconds = sum(estimated_seconds(spec) for spec in to_do)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    console.print(
        f"plan: {len(specs)} runs, {len(specs) - len(to_do)} finished, {len(to_do)} to do:"
        f" {sum(spec.horizon.tokens for spec in to_do):,} tokens, {flops:.2e} training FLOPs,"
        + (
            f" about {seconds:,.0f} core-seconds, {seconds / cores:,.0f} s if launched on {cores} cores"
            if all(spec.command is None for spec in specs)
            else " by commands, whose time is not known"
        ),
        highlight=False,
    )
    for text in _warnings(specs):
        console.print(f"note: {text}", style="yellow", highlight=False)


def _plan_columns(spec: RunSpec) -> dict[str, str]:
    """What a run asks for, and beside it what follows from that."""
    counted = count_params(spec)
    return {
        "param.": spec.parametrization,
        "optimizer": spec.optimizer,
        "width": str(spec.shape.width),
        "depth": str(spec.shape.depth),
        "heads": f"{spec.shape.heads}/{spec.shape.kv_heads}×{spec.shape.head_dim}",
        "ffn": str(spec.shape.ffn),
        "N non-emb.": f"{counted.non_embedding:,}",
        "N total": f"{counted.total:,}",
        "base": f"{spec.base.width}×{spec.base.depth}",
        "tokens": f"{spec.horizon.tokens:,}",
        "unique": "—" if spec.data.unique_tokens is None else f"{spec.data.unique_tokens:,}",
        "batch": f"{spec.sequences}×{spec.shape.context}",
        "steps": f"{spec.horizon.steps:,}",
        "schedule": f"{spec.horizon.schedule}, {spec.horizon.warmup_steps} warmup steps",
        "data": f"{spec.data.name} {spec.data.sha256[:8]}",
        "dtype": spec.dtype,
        "lr": f"{spec.hparams.lr:.4g}",
        "wd": f"{spec.hparams.weight_decay:.4g}",
        "seed": str(spec.seed),
        "FLOPs": f"{spec.cost_flops:.2e}",
        "~core-s": "—" if spec.command is not None else f"{estimated_seconds(spec):.1f}",
    }


def _print_runs(runs: Sequence[PlannedRun], missing: Sequence[PlannedRun], console: Console, rows: int) -> None:
    """What all runs share in words, what differs as a table."""
    columns = [_plan_columns(run.spec) for run in runs]
    shared = {k: v for k, v in columns[0].items() if all(other[k] == v for other in columns)}
    varying = [name for name in columns[0] if name not in shared]
    show.say(console, "shared: " + ", ".join(f"{name} {value}" for name, value in shared.items()))
    cells = [
        (run.spec.fingerprint, *(at[name] for name in varying), "to do" if run in missing else "finished")
        for run, at in zip(runs[:rows], columns[:rows], strict=True)
    ]
    console.print(show.grid("", ("run", *varying, "state"), cells))
    if len(runs) > rows:
        show.say(console, f"… and {len(runs) - rows} more")


def estimated_seconds(spec: RunSpec) -> float:
    """About how long a run takes on one core, from rates measured once; a plan's estimate, never a result."""
    width = min(CORE_FLOPS_BY_WIDTH, key=lambda known: abs(known - spec.shape.width))
    per_token = count_flops_per_token(spec).six_n_attention
    validation = spec.data.validation_tokens * per_token / 3
    return (spec.cost_flops + validation) / CORE_FLOPS_BY_WIDTH[width]


def _warnings(specs: Sequence[RunSpec]) -> list[str]:
    found = []
    own = [spec for spec in specs if spec.command is None]
    for spec in {(spec.data, spec.horizon.tokens): spec for spec in own}.values():
        corpus = load(spec.data.name, unique_tokens=spec.data.unique_tokens, **dict(spec.data.options))
        passes = epochs(corpus, tokens=spec.horizon.tokens, context=spec.shape.context)
        if passes > 1 and spec.data.unique_tokens is None:  # else it was asked for
            found.append(f"{spec.horizon.tokens:,} tokens pass over {corpus.name} {passes:.1f} times: data repeat")
    bare = [spec for spec in specs if spec.base_tokens is None and spec.base_batch_tokens is None]
    if any(map(moves_with_horizon, {(spec.parametrization, spec.weight_decay_policy): spec for spec in bare}.values())):
        found.append("base.tokens and base.batch_tokens are not given: the rules' factors for batch and horizon are 1")
    headed = [spec for spec in specs if MODELS[spec.model].attention]
    small = sorted({spec.shape.head_dim for spec in headed if spec.shape.head_dim < 32})
    if small:
        found.append(f"head_dim {', '.join(map(str, small))} is below 32, where TP-V App. D.4 advises not to go")
    if any(spec.dtype == "bfloat16" for spec in own):
        found.append("dtype=bfloat16 is for GPUs: on a CPU without such arithmetic a step takes about ten times longer")
    return found
