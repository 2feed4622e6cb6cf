"""The loss laws of a group: what they are fitted to, which of them, and how they compare.

Where learning rates were swept, a loss law is about the best loss of each scale: the floors of the fitted valleys, which
are not the best runs and carry no winner's curse. Where they were not, every run is an observation.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scalelab.errors import Refused, unknown
from scalelab.laws.fitted import Fit
from scalelab.laws.forms import LAWS
from scalelab.laws.law import Law
from scalelab.laws.observations import Observations, observations
from scalelab.laws.solve.fit import aicc, fit_observations, point
from scalelab.laws.solve.objective import Objective

if TYPE_CHECKING:
    from scalelab.laws.study import GroupLaws

SHOWN = 3  # laws fitted with intervals where none are named, the best by AICc
SPARE = 1  # runs beyond parameters plus one, for a law that nobody asked for by name
OUTPUT = "loss_nats"


def loss_fits(
    runs: pd.DataFrame, group: "GroupLaws", *, names: Sequence[str] | None, draws: int, rng: np.random.Generator
) -> tuple[dict[str, Fit], dict[str, str]]:
    """Loss laws by name, best first, and why others were not fitted."""
    for name in names or ():
        if name not in LAWS or LAWS[name].output != OUTPUT:
            raise unknown("loss law", name, [n for n, law in LAWS.items() if law.output == OUTPUT])
    rows, basis = floors(runs, group)
    seen, refused = carried(rows, [LAWS[name] for name in names] if names else loss_laws(), spare=0 if names else SPARE)
    if not seen:
        return {}, refused if names else {"loss laws": next(iter(refused.values()), "no loss law fits these columns")}
    chosen = list(seen) if names else ranked(seen)[:SHOWN]
    fits = {}
    for name in chosen:
        try:
            fits[name] = fit_observations(
                LAWS[name], seen[name], draws=draws, rng=np.random.default_rng([int(rng.integers(2**31)), *name.encode()]),
                warnings=(basis,) if basis else (),
            )  # fmt: skip
        except Refused as refusal:
            refused[name] = str(refusal)
    return fits, refused if names else {}


def loss_laws() -> list[Law]:
    """The registered laws of the loss whose form is not another's in other words."""
    forms: dict[tuple[str, tuple[str, ...]], Law] = {}
    for law in LAWS.values():
        if law.output == OUTPUT:
            forms.setdefault((law.form.replace(law.name, ""), tuple(law.inputs)), law)
    return list(forms.values())


def floors(runs: pd.DataFrame, group: "GroupLaws") -> tuple[pd.DataFrame, str]:
    """What loss laws are fitted to, as a table, and a sentence on it where it is not simply the runs."""
    if group.joint is not None:
        table = pd.DataFrame([{**cell.scale, OUTPUT: float(np.exp(cell.log_loss))} for cell in group.joint.cells])
        return table, ""
    fitted = [o for o in group.optima if o.loss_nats is not None]
    if group.optima and fitted:
        return pd.DataFrame([{**o.scale, OUTPUT: o.loss_nats} for o in fitted]), ""
    return runs, ""


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
                raise Refused(f"{law.name} has {len(law.parameters)} parameters, too many to choose it by {clusters} runs")
            seen[law.name] = found
        except Refused as refusal:
            refused[law.name] = str(refusal)
    return seen, refused


def ranked(seen: dict[str, Observations]) -> list[str]:
    """Names of the laws by AICc under one threshold for all, the best first."""
    points = {name: point(LAWS[name], rows) for name, rows in seen.items()}
    delta = min(at.problem.objective.delta for at in points.values())
    common = Objective(delta=delta)
    scored = {
        name: aicc(point(LAWS[name], seen[name], common, near=at.found.theta_P)) for name, at in points.items()
    }
    return sorted(scored, key=lambda name: scored[name])
