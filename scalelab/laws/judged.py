"""A group with its laws of loss and of settings, and with how far all of it is to be trusted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from scalelab.errors import Refused
from scalelab.laws.carried import LOSS, bests, fit_forms, floors
from scalelab.laws.fitted import Fit
from scalelab.laws.group import GroupLaws
from scalelab.laws.validate.published import Compared, compare_losses, compare_settings, params_column
from scalelab.laws.validate.sensitivity import Card, farther, joint_card, loss_card
from scalelab.laws.validate.settings import leave_out_largest


def judged(
    group: GroupLaws,
    rows: pd.DataFrame,
    *,
    names: Sequence[str] | None,
    keys: Sequence[str],
    target: Mapping[str, float] | None,
    draws: int,
    entropy: Sequence[int],
) -> GroupLaws:
    """The group with these laws, and with what the largest scale left out, other assumptions and others' laws say."""
    rng = np.random.default_rng([*entropy, *b"judged"])
    not_fitted = dict(group.not_fitted)
    ok = rows[rows["outcome"] == "OK"]
    losses = fit_forms(floors(ok, group.joint, group.optima), LOSS, names=names, draws=draws, rng=rng)
    settings: dict[str, Fit] = {}
    compared: list[Compared] = []
    cards: list[Card] = []
    validation = None
    if group.joint is not None:
        best = bests(group.joint)
        for output in group.joint.coordinates if len(best) else ():
            # At its best batch a scale says nothing on a law of the rate at a given one.
            settings |= fit_forms(best, output, without=group.joint.coordinates, draws=draws, rng=rng).fits
        compared += compare_settings(group.joint, keys, params_column(group.joint))
        cards.append(joint_card(rows, group.joint, target or farther(group.joint.domain), rng=rng))
        try:
            validation = leave_out_largest(rows, group.joint, published=keys, rng=rng)
        except Refused as refusal:
            not_fitted["hold-out"] = str(refusal)
    for name, fit in losses.fits.items():
        try:
            cards.append(loss_card(fit, losses.seen[name], target or farther(fit.domain)))
        except Refused as refusal:
            not_fitted[f"sensitivity of {name}"] = str(refusal)
        break  # the best form's; the others' spread is that between forms
    if losses.seen:
        widest = max(losses.seen.values(), key=lambda seen: len(seen.inputs))
        compared += compare_losses(widest, keys, widest.columns)
    return replace(
        group, setting_fits=settings, loss_fits=losses.fits, loss_scores=losses.scores, validation=validation,
        compared=tuple(compared), cards=tuple(cards), not_fitted=not_fitted | losses.refused,
    )  # fmt: skip
