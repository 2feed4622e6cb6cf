"""Table → laws: the optima of every group of trials, and every registered law that they can carry."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scalelab.errors import Refused, unknown
from scalelab.laws.cells import SCALES, Group, groups
from scalelab.laws.forms import LAWS
from scalelab.laws.law import Evidence, Fit
from scalelab.laws.noise import Noise
from scalelab.laws.optimum import Optimum, optima

MIN_DRAWS = 100  # fewer leave a 95 % interval to two draws


@dataclass(frozen=True, kw_only=True)
class GroupLaws:
    """What one group of trials says: its settings, its optima, and the laws fitted to them.

    `key` is column → value of everything the group's runs share. `lr_fits` holds the laws of the optimal LR by name;
    `not_fitted` says why the others are not there. `n_failed` runs were dropped as infrastructure failures,
    `n_repeated` as repetitions of a row; `n_diverged` are used.
    """

    key: dict[str, str | float]
    noise: Noise
    optima: list[Optimum]
    lr_fits: dict[str, Fit]
    loss_fit: Fit | None
    not_fitted: dict[str, str]
    n_runs: int
    n_diverged: int
    n_failed: int
    n_repeated: int


@dataclass(frozen=True, kw_only=True)
class Laws:
    """Everything a table of trials says on the optimal LR, with what is needed to repeat the fit.

    `theory` are the exponents held against the measured ones; `template` is the trials' common run specification, kept
    and not looked into; `sources` says where the trials came from.
    """

    groups: list[GroupLaws]
    theory: dict[str, float]
    seed: int
    draws: int
    template: dict[str, Any] | None
    sources: list[str]


def fit(
    table: pd.DataFrame,
    *,
    seed: int = 0,
    draws: int = 1000,
    theory: Mapping[str, float] | None = None,
    scales: Sequence[str] = tuple(SCALES),
    template: Mapping[str, Any] | None = None,
    sources: Sequence[str] = (),
) -> Laws:
    """Fit every registered law to every group of trials; the same table and seed give the same laws.

    Args:
        table: one row a run; columns as in `scalelab.laws.cells.COLUMNS`, of which lr (peak), loss_nats and one scale
            are needed.
        seed: of the bootstrap.
        draws: bootstrap draws.
        theory: scale column → exponent that theory gives the LR of this table; 0 where it names none.
        scales: the columns that count as scale. Adding "batch_tokens" fits the law conditional on the batch, in place
            of one law for each batch size.
        template: the trials' common run specification, passed through; anything JSON can hold.
        sources: where the trials came from.

    Raises:
        Refused: on a table that `scalelab.laws.cells.groups` refuses; where every run diverged; where no group has
            more than one scale.
    """
    for name in scales:
        if name not in (*SCALES, "batch_tokens"):
            raise unknown("scale", name, (*SCALES, "batch_tokens"))
    for name in theory or {}:
        if name not in scales:
            raise unknown("theory exponent", name, scales)
    if draws < MIN_DRAWS:
        raise Refused(f"draws={draws}: accepted are {MIN_DRAWS} or more; 1000 take well under a second")
    found = groups(table, scales=scales)
    if not found:
        raise Refused("every run FAILED, which says nothing on the loss: rerun them")
    if all(len(group.cells) < 2 for group in found):
        at = ", ".join(f"{name} {value:g}" for name, value in found[0].cells[0].scale.items())
        raise Refused(f"one scale only ({at}): a law needs two scales or more with equal settings; train another")
    if all(np.isnan(cell.loss_SL).all() for group in found for cell in group.cells):
        lowest = min(float(cell.log2_lr_L[0]) for group in found for cell in group.cells)
        raise Refused(f"every run diverged, down to LR {2**lowest:.3g}: try lower LRs, from {2 ** (lowest - 3):.3g} up")
    return Laws(
        groups=[_group(group, theory or {}, scales, draws, [seed, place]) for place, group in enumerate(found)],
        theory=dict(theory or {}),
        seed=seed,
        draws=draws,
        template=_json(template),
        sources=list(sources),
    )


def _group(
    group: Group, theory: Mapping[str, float], scales: Sequence[str], draws: int, entropy: list[int]
) -> GroupLaws:
    found, noise, log2_lr_DC = optima(group.cells, draws=draws, rng=np.random.default_rng(entropy))
    fits: dict[str, Fit] = {}
    not_fitted: dict[str, str] = {}
    for name, law in LAWS.items():
        # Each law has its own generator, so that adding a law changes no other's draws.
        own = np.random.default_rng([*entropy, *name.encode()])
        evidence = Evidence(optima=found, log2_lr_DC=log2_lr_DC, scales=scales, theory=theory, rng=own)
        try:
            fits[name] = law.fit(evidence)
        except Refused as refusal:
            not_fitted[name] = str(refusal)
    return GroupLaws(
        key=dict(group.key),
        noise=noise,
        optima=found,
        lr_fits={name: fitted for name, fitted in fits.items() if fitted.law.output == "lr"},
        loss_fit=next((fitted for fitted in fits.values() if fitted.law.output == "loss_nats"), None),
        not_fitted=not_fitted,
        n_runs=sum(cell.n_runs for cell in group.cells),
        n_diverged=sum(cell.n_diverged for cell in group.cells),
        n_failed=group.n_failed,
        n_repeated=group.n_repeated,
    )


def _json(template: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if template is None:
        return None
    try:
        return dict(json.loads(json.dumps(dict(template), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise Refused(f"template: accepted is what JSON can hold ({error}); pass plain numbers, text, lists") from error
