"""A run that is asked for → the job that `run_jobs` takes, whichever launcher brought it."""

from collections.abc import Mapping
from typing import Any

from scalelab.composing import SEARCHES
from scalelab.jobs import Job
from scalelab.spec import RunSpec
from scalelab.trackers import tracker
from scalelab.trials import RunFolder


def sink_of(tracker: Mapping[str, Any], *, sweeper: str) -> Mapping[str, Any]:
    """A tracker's configuration with what the run is for, where it asks and does not say."""
    if tracker.get("job_type", "") is not None:
        return tracker
    return {**tracker, "job_type": "trial" if sweeper.endswith(SEARCHES) else "proxy"}


def job_of(spec: RunSpec, folder: RunFolder, *, sink: Mapping[str, Any], pruning: int | None) -> Job:
    """The job of a run.

    Args:
        spec: what is trained.
        folder: where.
        sink: the tracker's configuration.
        pruning: of a search with a pruner, the trial that the run belongs to.
    """
    told = tracker(**sink)
    if pruning is None:
        return Job(spec=spec, folder=folder, tracker=told)
    from scalelab.search.pruning import pruning_of  # Optuna: for its searches only

    asked = pruning_of(folder, pruning, spec)
    return Job(
        spec=spec, folder=folder, tracker=told, pruner=asked.pruner, begins=asked.begins,
        keep_checkpoint=asked.keep_checkpoint,
    )  # fmt: skip
