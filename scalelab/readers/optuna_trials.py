"""The trials of an Optuna study as a table: a row a trial, its columns named as `Study.trials_dataframe` does.

Of a search of ours more is known: what its attributes and its fixed configuration say stands under our own names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scalelab.errors import Refused
from scalelab.laws.columns import COLUMNS
from scalelab.readers.optuna_study import shown, study_of_file, study_of_storage

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

IDENTITY = "scalelab"  # attribute of a study of ours: what is searched, and what is fixed
WORK = "work"  # of a trial that runs: whose it is, since when, and the tickets of what was handed over
LEFT_OUT = ["datetime_start", "datetime_complete", "duration", "state"]

# The keys of a configuration that are columns of ours, and where a spec states those that it names.
KEYS = {
    "lr": "lr",
    "optimizer.weight_decay": "weight_decay",
    "batch_tokens": "batch_tokens",
    "tokens": "tokens",
    "width": "width",
    "depth": "depth",
    "parametrization": "parametrization",
    "optimizer": "optimizer",
    "data": "data",
}
FIXED = {
    "width": "shape.width",
    "depth": "shape.depth",
    "parametrization": "parametrization",
    "optimizer": "optimizer",
    "data": "data.name",
}


def storage_trials(url: str) -> pd.DataFrame:
    """The trials of a study in a storage."""
    return trials(study_of_storage(url), source=shown(url))


def file_trials(path: Path, name: str = "") -> pd.DataFrame:
    """The trials of a study in a file."""
    return trials(study_of_file(path, name), source=str(path))


def trials(study: "Study", *, source: str) -> pd.DataFrame:
    """A row for every trial that has ended; `Refused` where there is none yet."""
    from optuna.study import StudyDirection

    frame = study.trials_dataframe()
    kept = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    if not kept:
        raise Refused(f"study {study.study_name!r} of {source} has no trials that have ended")
    frame = frame[frame["number"].isin([trial.number for trial in kept])].reset_index(drop=True)
    frame = frame.drop(columns=[column for column in LEFT_OUT if column in frame])
    frame["outcome"] = [outcome_of(trial) for trial in kept]
    frame.insert(0, "run", [f"{study.study_name}/{trial.number}" for trial in kept])
    if IDENTITY in study.user_attrs:
        frame = _ours(frame, study.user_attrs[IDENTITY]["fixed"])
    elif study.directions[0] is StudyDirection.MAXIMIZE:
        # What is maximized is no loss: its column is not offered as one.
        frame = frame.rename(
            columns={name: f"maximized_{name}" for name in map(str, frame) if name.startswith("value")}
        )
    else:
        frame = frame.rename(columns={"values_0": "value"})  # the first of several objectives, as if it were the only
    return frame.drop(columns="number")


def _ours(frame: pd.DataFrame, fixed: Mapping[str, Any]) -> pd.DataFrame:
    """With our own names: of a trial's attributes, of the keys that are searched, and of what is fixed for all."""
    frame = frame.drop(columns=[name for name in map(str, frame) if name.startswith("value")])
    attributes = {name: f"user_attrs_{name}" for name in COLUMNS if name not in frame}
    searched = {name: f"params_{key}" for key, name in KEYS.items()}
    for names in (attributes, searched):  # what a run states of itself goes before what was asked for
        frame = frame.assign(**{ours: frame[its] for ours, its in names.items() if its in frame and ours not in frame})
    kept = [name for name in map(str, frame) if not name.startswith(("params_", "user_attrs_", "system_attrs_"))]
    kept += [name for name in map(str, frame) if name.startswith("params_") and name not in searched.values()]
    return frame[kept].assign(**{name: fixed[place] for name, place in FIXED.items() if name not in frame})


def outcome_of(trial: "FrozenTrial") -> str:
    """OK, DIVERGED or FAILED of a trial that has ended; RUNNING or WAITING of one that has not.

    As its own attribute `outcome` says (what was PRUNED is no result: FAILED); otherwise DIVERGED where the objective
    (or its last report) is not finite.
    Optuna fails a trial whose objective is NaN, and keeps no value of it: what it reported on the way is the evidence.
    """
    if not trial.state.is_finished():
        return trial.state.name
    if (told := trial.user_attrs.get("outcome")) in ("OK", "DIVERGED", "FAILED"):
        return str(told)
    if told == "PRUNED":
        return "FAILED"
    reported = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
    seen = list(trial.values or []) if trial.state.name == "COMPLETE" else reported[-1:]
    if not np.isfinite([float(value) for value in seen]).all():
        return "DIVERGED"
    return "OK" if trial.state.name == "COMPLETE" else "FAILED"
