"""Runs of ours that W&B kept a copy of: read back to the trials that they are, as from run folders."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from scalelab.collection import row_of
from scalelab.errors import Refused
from scalelab.laws.columns import COLUMNS
from scalelab.readers.names import OURS
from scalelab.readers.units import ENDINGS
from scalelab.readers.wandb_runs import wandb_files, wandb_run
from scalelab.spec import RunSpec, as_plain, from_plain
from scalelab.trials import Outcome, Trial

WHOLE = OURS.rstrip(".")
KEPT = "-offline"  # behind the id of an online run that found no server


def tracked_runs(folder: Path) -> tuple[pd.DataFrame, tuple[RunSpec, ...]]:
    """The table and the specs of all W&B runs below `folder`, if they are ours; else empty.

    A run that has not ended is no trial and left out. Of several copies of a run the last that has ended counts.

    Raises:
        Refused: on a corrupt file, and on a run of another version.
    """
    found: dict[str, tuple[str, Trial]] = {}
    for file in wandb_files(folder):
        run = wandb_run(file)
        if "command" in run["config"]:  # of `fit` or `recommend`
            continue
        spec, told = run["config"].get(WHOLE), run["summary"].get(WHOLE)
        if not isinstance(spec, Mapping):
            return pd.DataFrame(), ()
        if isinstance(told, Mapping):
            found[run["id"].removesuffix(KEPT)] = run["run"], _trial(file, spec, told)
    if not found:
        return pd.DataFrame(), ()
    table = pd.DataFrame([{"run": name, **row_of(trial, as_plain(trial.spec))} for name, trial in found.values()])
    table["outcome"] = table["outcome"].str.lower().map(ENDINGS)
    return table[[name for name in COLUMNS if name in table]], tuple(trial.spec for _, trial in found.values())


def _trial(file: Path, spec: Mapping[str, Any], told: Mapping[str, Any]) -> Trial:
    known = {field.name: told[field.name] for field in fields(Trial) if field.name in told}
    try:
        return Trial(**{**known, "spec": from_plain(spec), "outcome": Outcome(told["outcome"])})
    except (KeyError, TypeError, ValueError) as error:  # a spec of another version is Refused, a ValueError
        raise Refused(f"{file} is no run of this version ({error}): leave it out") from None
