"""Of all registered forms those that a table's rows can carry: fitted, compared, the best of them with intervals.

Where learning rates were swept, a loss law is about the best loss of each scale: the floors of the fitted valleys,
which are not the best runs and carry no winner's curse; and a law of a hyperparameter is about each scale's best. Where
nothing was swept every run is an observation of the loss.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scalelab.errors import Refused, unknown
from scalelab.laws.fitted import Fit
from scalelab.laws.forms import LAWS
from scalelab.laws.joint.result import Joint
from scalelab.laws.law import Law
from scalelab.laws.observations import Observations, observations
from scalelab.laws.optima.optimum import Optimum
from scalelab.laws.solve.fit import fit_observations
from scalelab.laws.validate.forms import FormScore, compare_forms

SHOWN = 3  # laws fitted with intervals where none are named
SPARE = 1  # runs beyond parameters plus one, for a law that nobody asked for by name
LOSS = "loss_nats"
VAGUE_LOSS = 0.05  # the same of ln loss and a scale's floor
VAGUE = 1.0  # standard deviation of ln setting beyond which a scale says nothing on its own optimum


@dataclass(frozen=True, kw_only=True, eq=False)
class Carried:
    """Fits by name, the best first; how every form that the runs can carry scored; why others were not fitted; and what
    each was fitted to."""

    fits: dict[str, Fit]
    scores: tuple[FormScore, ...]
    refused: dict[str, str]
    seen: dict[str, Observations]


def fit_forms(
    rows: pd.DataFrame,
    output: str,
    *,
    names: Sequence[str] | None = None,
    without: Collection[str] = (),
    draws: int,
    rng: np.random.Generator,
) -> Carried:
    """Fit the named laws of an output, or the three without certain inputs that predict sizes left out best.

    Raises:
        Refused: on a name that is no law of this output.
    """
    of = {name: law for name, law in LAWS.items() if law.output == output and not set(without) & set(law.inputs)}
    for name in names or ():
        if name not in of:
            raise unknown(f"law of {output}", name, of)
    seen, refused = carried(rows, [of[name] for name in names or of], spare=0 if names else SPARE)
    if not seen:
        plainest = min(refused, key=lambda name: len(of[name].parameters), default="")
        reason = refused.get(plainest, f"no law of {output} is registered")
        return Carried(fits={}, scores=(), refused=refused if names else {f"laws of {output}": reason}, seen={})
    scores = compare_forms(seen)
    fits = {}
    for name in list(seen) if names else [score.law for score in scores][:SHOWN]:
        own = np.random.default_rng([int(rng.integers(2**31)), *name.encode()])
        try:
            fits[name] = fit_observations(of[name], seen[name], draws=draws, rng=own)
        except Refused as refusal:
            refused[name] = str(refusal)
    return Carried(fits=fits, scores=scores, refused=refused if names else {}, seen=seen)


def floors(runs: pd.DataFrame, joint: Joint | None, found: Sequence[Optimum]) -> pd.DataFrame:
    """What laws of the loss are fitted to: the floors of the valleys, or the runs."""
    if joint is not None:
        known = [cell for cell in joint.cells if cell.log_loss_sd < VAGUE_LOSS]
        return pd.DataFrame([{**cell.scale, LOSS: math.exp(cell.log_loss)} for cell in known])
    fitted = [{**o.scale, LOSS: o.loss_nats} for o in found if o.loss_nats is not None]
    return pd.DataFrame(fitted) if fitted else runs


def bests(joint: Joint) -> pd.DataFrame:
    """What laws of hyperparameters are fitted to: a row a scale, with its own best settings and its best loss."""
    rows = []
    for cell in joint.cells:
        if not cell.settings or any(sd > VAGUE for _, sd in cell.settings.values()):
            continue
        row = {**cell.scale, LOSS: math.exp(cell.log_loss)}
        row |= {name: math.exp(log) for name, (log, _) in cell.settings.items()}
        batch = row.get("batch_tokens", joint.only_batch)
        if {"lr", "tau", "tokens"} <= row.keys() and batch is not None:
            row["batch_tokens"] = batch
            row["weight_decay"] = batch / (row["lr"] * row["tau"] * row["tokens"])
        rows.append(row)
    return pd.DataFrame(rows)


def carried(
    rows: pd.DataFrame, laws: Sequence[Law], *, spare: int = 0
) -> tuple[dict[str, Observations], dict[str, str]]:
    """The observations of every law that the rows can carry with `spare` runs to judge it by, and why others cannot."""
    seen: dict[str, Observations] = {}
    refused: dict[str, str] = {}
    for law in laws:
        try:
            found = observations(rows, law)
            if (clusters := int(found.cluster_N.max()) + 1) <= len(law.parameters) + spare:
                raise Refused(
                    f"{law.name} has {len(law.parameters)} parameters, too many to choose it by {clusters} runs"
                )
            seen[law.name] = found
        except Refused as refusal:
            refused[law.name] = str(refusal)
    return seen, refused
