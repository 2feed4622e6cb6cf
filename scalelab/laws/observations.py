"""From checked runs to what a law can be fitted to: its inputs and output, and which rows err together."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from scalelab.errors import Refused
from scalelab.laws.checked import LARGEST, MEANT, SMALLEST
from scalelab.laws.columns import PARAMS, SETTINGS
from scalelab.laws.law import Array, Law

COLLINEAR = 1e-6  # of the largest singular value of the centred log inputs


@dataclass(frozen=True, kw_only=True, eq=False)
class Observations:
    """Inputs and output of shape (N,), the cluster number of every row, and from which column each input came.

    `unit` says what a cluster is: a "run" with its checkpoints, or a "scale" with all that was tried there.
    """

    inputs: Mapping[str, Array]
    output_N: Array
    cluster_N: npt.NDArray[np.intp]
    unit: str
    columns: dict[str, str]

    def __len__(self) -> int:
        return len(self.output_N)


def observations(runs: pd.DataFrame, law: Law) -> Observations:
    """The rows of checked runs that ended well, as observations of a law.

    Raises:
        Refused: on a missing input or output, an input that never varied, inputs that rise together, or no more
            independent runs than the law has parameters.
    """
    if runs.empty:
        raise Refused(f"no run ended with a finite {law.output}: there is nothing to fit {law.name} to")
    columns: dict[str, str] = {}
    inputs = {name: _column(runs, name, law, columns) for name in law.inputs}
    output_N = _column(runs, law.output, law, {})
    refuse_unvaried(inputs, law)
    cluster_N, unit = _clusters(runs, inputs)
    if (clusters := int(cluster_N.max()) + 1) <= len(law.parameters):
        raise Refused(
            f"{law.name} has {len(law.parameters)} parameters and there are {clusters} independent {unit}s: needed"
            " are more of them than parameters; add sizes, or fit a law with fewer"
        )
    return Observations(inputs=inputs, output_N=output_N, cluster_N=cluster_N, unit=unit, columns=columns)


def _clusters(runs: pd.DataFrame, inputs: Mapping[str, Array]) -> tuple[npt.NDArray[np.intp], str]:
    """Rows that err together: checkpoints of a run; of a sweep the runs at one scale, which differ by settings."""
    if "run" in runs and runs["run"].nunique() < len(runs):
        return pd.factorize(runs["run"])[0], "run"
    settings = [name for name in SETTINGS if name in runs and name not in inputs]
    scale_N = pd.factorize(pd.MultiIndex.from_arrays(list(inputs.values())))[0]
    if settings and runs[settings].groupby(scale_N).nunique().to_numpy().max() > 1:
        return scale_N, "scale"
    return np.arange(len(runs)), "run"


def refuse_unvaried(inputs: Mapping[str, Array], law: Law) -> None:
    """Refuse inputs that do not vary, or not apart from one another."""
    logs = {name: np.log(values) - np.log(values).mean() for name, values in inputs.items()}
    for name, log_N in logs.items():
        if np.abs(log_N).max() < 1e-9:
            raise Refused(
                f"one {name} only ({inputs[name][0]:g}): {law.name} needs {name} to vary; train another, or fit a law"
                " without it"
            )
    if len(logs) < 2:
        return
    scaled_NK = np.stack([log_N / np.linalg.norm(log_N) for log_N in logs.values()], axis=-1)
    if np.linalg.svd(scaled_NK, compute_uv=False)[-1] < COLLINEAR:
        raise Refused(
            f"{' and '.join(logs)} rise together in every run, so that {law.name} cannot tell their effects apart: vary"
            " one at a fixed other, or fit a law in one of them"
        )


def _column(runs: pd.DataFrame, name: str, law: Law, columns: dict[str, str]) -> Array:
    values = derived(runs, name, columns)
    if values is None:
        held = ", ".join(str(column) for column in runs.columns)
        raise Refused(f"{law.name} needs {name}: the table has {held}; name its column with --column {name}=THEIRS")
    fine_N = (values >= SMALLEST) & (values <= LARGEST)
    if not fine_N.all():
        raise Refused(f"{name} holds {values[~fine_N][0]:g}: accepted is a finite number > 0, {MEANT}")
    return values


def derived(runs: pd.DataFrame, name: str, columns: dict[str, str]) -> Array | None:
    """A column by its name, the count of parameters that the table states, or what follows from other columns.

    FLOPs that are not stated are 6ND (arXiv:2001.08361 eq. 2.2).
    """
    if name == "params":
        stated = [column for column in PARAMS if column in runs]
        if not stated:
            return None
        columns["params"] = stated[0]
        return runs[stated[0]].to_numpy(float)
    if name in runs:
        columns[name] = name
        return runs[name].to_numpy(float)
    parts = {
        "steps": ("tokens", "batch_tokens"),
        "tokens_per_param": ("tokens", "params"),
        "cost_flops": ("params", "tokens"),
        "lr_decay": ("lr", "weight_decay"),
        "tau": ("batch_tokens", "lr", "weight_decay", "tokens"),
    }.get(name)
    if parts is None:
        return None
    found = [derived(runs, part, columns) for part in parts]
    if any(value is None for value in found):
        return None
    numbers = [np.asarray(value) for value in found]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # what is not finite is refused by name
        if name in ("steps", "tokens_per_param"):
            return np.asarray(numbers[0] / numbers[1])
        if name == "cost_flops":
            return np.asarray(6 * numbers[0] * numbers[1])
        if name == "lr_decay":
            return np.asarray(numbers[0] * numbers[1])
        return np.asarray(numbers[0] / (numbers[1] * numbers[2] * numbers[3]))
