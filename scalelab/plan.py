"""Arguments → a plan: every run that a command line asks for, composed by Hydra and resolved before any is paid for."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scalelab import command, preflight
from scalelab.composing import Job, Multirun, as_mapping, composed_from, hydra_ready, multirun, refusing, searching
from scalelab.config import spec_from_config
from scalelab.data import load, validation_batches
from scalelab.errors import Refused
from scalelab.overrides import split_flags
from scalelab.spec import RunSpec
from scalelab.trials import TRIAL_FILE, Outcome, RunFolder


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run of a plan: the overrides that make it (Hydra's own and the task's), what it is, and where it will be."""

    hydra_overrides: tuple[str, ...]
    task_overrides: tuple[str, ...]
    spec: RunSpec
    folder: RunFolder


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every run that the given arguments ask for, each once, in launch order."""

    runs: tuple[PlannedRun, ...]

    @property
    def missing(self) -> tuple[PlannedRun, ...]:
        """The runs without a final trial, looked up on disk at each call."""
        return tuple(run for run in self.runs if run.folder.final(run.spec) is None)

    def outcomes(self) -> dict[Outcome | None, int]:
        """How many runs ended in which way; None counts those that have not ended."""
        counts: dict[Outcome | None, int] = {}
        for run in self.runs:
            ended = (run.folder.path / TRIAL_FILE).exists()
            outcome = run.folder.read().outcome if ended else None
            counts[outcome] = counts.get(outcome, 0) + 1
        return counts


def plan(overrides: Sequence[str], *, multirun: bool, directories: Sequence[str] = (), dry: bool = False) -> Plan:
    """The runs that a command line asks for.

    Args:
        overrides: Hydra overrides, a sweep's values separated by commas.
        multirun: whether `-m` was given.
        directories: further configuration directories (`--config-dir`), absolute.
        dry: nothing is to be run, so that a device need not be on this machine.

    Raises:
        Refused: on anything in any run that is not accepted; nothing has been written then.
    """
    given = [*overrides, *searching(directories)]
    with hydra_ready():
        jobs = _grid(swept(overrides, directories)) if multirun else [_single(given)]
        return planned(jobs, dry=dry)


def swept(overrides: Sequence[str], directories: Sequence[str] = ()) -> Multirun:
    """What a command line with `-m` asks for, whichever sweeper is to make jobs of it."""
    return multirun([*overrides, *searching(directories)])


def planned(jobs: Iterable[Job], *, dry: bool = False) -> Plan:
    """The runs of these jobs, each checked as far as it can be before it is paid for.

    Raises:
        Refused: on anything in any run that is not accepted.
    """
    runs: dict[str, PlannedRun] = {}
    for job in jobs:
        with refusing():
            plain = as_mapping(job.config)
        spec = spec_from_config(plain)
        preflight.check(plain, spec, elsewhere=job.elsewhere or (dry and not preflight.is_here(plain)))
        where = RunFolder(Path(job.config.hydra.run.dir) if job.folder is None else job.folder / spec.fingerprint)
        command.check(spec, where.path)
        run = PlannedRun(
            hydra_overrides=job.hydra_overrides, task_overrides=job.task_overrides, spec=spec, folder=where
        )
        runs.setdefault(spec.fingerprint, run)
    own = [run.spec for run in runs.values() if run.spec.command is None]
    for data, context in {(spec.data, spec.shape.context): None for spec in own}:
        corpus = load(data.name, unique_tokens=data.unique_tokens, **dict(data.options))
        validation_batches(corpus, tokens=data.validation_tokens, sequences=1, context=context)  # refuses a short split
    return Plan(runs=tuple(runs.values()))


def composed(arguments: Sequence[str]) -> RunSpec:
    """The one run that a command line states, of any size: nothing is asked of this machine, as `plan` does.

    Raises:
        Refused: on anything that is not accepted.
    """
    overrides, is_multirun, directories = split_flags(arguments)
    if is_multirun:
        raise Refused("no -m here: accepted is one configuration, KEY=VALUE …")
    with hydra_ready():
        job = _single([*overrides, *searching(directories)])
        with refusing():
            plain = as_mapping(job.config)
        return spec_from_config(plain)


def _single(given: Sequence[str]) -> Job:
    return Job(task_overrides=tuple(given), config=composed_from(given))


def _grid(asked: Multirun) -> Iterator[Job]:
    """A job for every combination of the values, by Hydra's own expansion."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    sweeper = str(asked.sweeper._target_)
    if not sweeper.endswith((".PlannedSweeper", ".BasicSweeper")):
        raise Refused(f"hydra/sweeper {sweeper}: accepted are scalelab and basic, whose runs can be planned")
    for override in asked.asked:
        if override.is_interval_sweep():
            raise Refused(
                f"{override.input_line}: a grid has no values from an interval; list them, or search it with"
                " hydra/sweeper=optuna"
            )
    with refusing():
        (batch,) = BasicSweeper.split_arguments(list(asked.asked), None)
    return (asked.job(job) for job in batch)
