"""The loss laws of a group: what they are fitted to, which of them, and how they compare.

Where learning rates were swept, a loss law is about the best loss of each scale: the floors of the fitted valleys, which
are not the best runs and carry no winner's curse. Where they were not, every run is an observation.
"""

from collections.abc import Sequence
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
OUTPUT = "loss_nats"


@dataclass(frozen=True, kw_only=True, eq=False)
class LossLaws:
    """Fits by name, the best first; how every form that the runs can carry scored; why others were not fitted; and what
    each was fitted to."""

    fits: dict[str, Fit]
    scores: tuple[FormScore, ...]
    refused: dict[str, str]
    seen: dict[str, Observations]


def loss_fits(
    runs: pd.DataFrame,
    joint: Joint | None,
    found: Sequence[Optimum],
    *,
    names: Sequence[str] | None,
    draws: int,
    rng: np.random.Generator,
) -> LossLaws:
    """Fit the named loss laws, or the three that predict sizes left out best."""
    for name in names or ():
        if name not in LAWS or LAWS[name].output != OUTPUT:
            raise unknown("loss law", name, [n for n, law in LAWS.items() if law.output == OUTPUT])
    rows = floors(runs, joint, found)
    seen, refused = carried(rows, [LAWS[name] for name in names] if names else loss_laws(), spare=0 if names else SPARE)
    if not seen:
        reason = next(iter(refused.values()), "no loss law fits these columns")
        return LossLaws(fits={}, scores=(), refused=refused if names else {"loss laws": reason}, seen={})
    scores = compare_forms(seen)
    chosen = list(seen) if names else [score.law for score in scores][:SHOWN]
    fits = {}
    for name in chosen:
        try:
            fits[name] = fit_observations(
                LAWS[name],
                seen[name],
                draws=draws,
                rng=np.random.default_rng([int(rng.integers(2**31)), *name.encode()]),
            )
        except Refused as refusal:
            refused[name] = str(refusal)
    return LossLaws(fits=fits, scores=scores, refused=refused if names else {}, seen=seen)


def loss_laws() -> list[Law]:
    """The registered laws of the loss whose form is not another's in other words."""
    forms: dict[tuple[str, tuple[str, ...]], Law] = {}
    for law in LAWS.values():
        if law.output == OUTPUT:
            forms.setdefault((law.form.replace(law.name, ""), tuple(law.inputs)), law)
    return list(forms.values())


def floors(runs: pd.DataFrame, joint: Joint | None, found: Sequence[Optimum]) -> pd.DataFrame:
    """What loss laws are fitted to, as a table."""
    if joint is not None:
        return pd.DataFrame([{**cell.scale, OUTPUT: float(np.exp(cell.log_loss))} for cell in joint.cells])
    fitted = [o for o in found if o.loss_nats is not None]
    if fitted:
        return pd.DataFrame([{**o.scale, OUTPUT: o.loss_nats} for o in fitted])
    return runs


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
