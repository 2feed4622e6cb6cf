"""Table → laws: for every group of runs the optima, the laws of the best hyperparameters, and the loss laws."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scalelab.errors import Refused, unknown
from scalelab.laws.checked import checked
from scalelab.laws.columns import NAMES, PARAMS, SCALES
from scalelab.laws.group import GroupLaws
from scalelab.laws.joint.fit import fit_joint
from scalelab.laws.joint.result import Joint
from scalelab.laws.judged import judged
from scalelab.laws.optima.cells import COVARIATES, Group, grouped, swept_scales
from scalelab.laws.optima.two_stage import two_stage
from scalelab.laws.validate.published import USUAL, keys_of

MIN_DRAWS = 100  # fewer leave a 95 % interval to two draws


@dataclass(frozen=True, kw_only=True)
class Laws:
    """Everything a table of trials says, with what is needed to repeat the fit.

    `theory` are the exponents held against the measured ones; `template` is the trials' common run specification, kept
    and not looked into; `sources` says where the trials came from, `conventions` what was counted and how.
    """

    groups: list[GroupLaws]
    theory: dict[str, float]
    seed: int
    draws: int
    template: dict[str, Any] | None
    sources: list[str]
    conventions: dict[str, str]


def study(
    table: pd.DataFrame,
    *,
    seed: int = 0,
    draws: int = 1000,
    theory: Mapping[str, float] | None = None,
    scales: Sequence[str] | None = None,
    laws: Sequence[str] | None = None,
    compare: Sequence[str] | None = None,
    target: Mapping[str, float] | None = None,
    template: Mapping[str, Any] | None = None,
    sources: Sequence[str] = (),
    conventions: Mapping[str, str] | None = None,
) -> Laws:
    """Fit every group of trials; the same table and seed give the same laws.

    Args:
        table: one row a run; columns as in `scalelab.laws.columns.COLUMNS`, of which loss_nats and one scale are
            needed, and lr (peak) for laws of hyperparameters.
        seed: of the bootstrap.
        draws: bootstrap draws.
        theory: scale column → exponent that theory gives the LR of this table; 0 where it names none.
        scales: the columns that count as scale in the two-stage fit. Left out: every scale, and batch and weight decay
            where several were swept, which makes the law of the learning rate conditional on them.
        laws: names of the loss laws to fit; left out, those that the runs can carry, the best three with intervals.
        compare: published laws to hold against the runs, by name ("step-law", "chinchilla/epoch"); left out, Step Law
            and DeepSeek where no parametrization is stated and the columns allow it.
        target: the scale at which assumptions are varied, by column; left out, ten times the largest.
        template: the trials' common run specification, passed through; anything JSON can hold.
        sources: where the trials came from.
        conventions: what was counted, in words, by kind.

    Raises:
        Refused: on a table that `checked` refuses; where every run diverged; where no group has more than one scale.
    """
    if draws < MIN_DRAWS:
        raise Refused(f"draws={draws}: accepted are {MIN_DRAWS} or more; 1000 take well under a second")
    for name in scales or ():
        if name not in (*SCALES, *COVARIATES):
            raise unknown("scale", name, (*SCALES, *COVARIATES))
    runs = checked(table)
    if (runs["outcome"] == "FAILED").all():
        raise Refused("every run FAILED, which says nothing on the loss: rerun them")
    chosen = tuple(scales) if scales is not None else swept_scales(runs)
    for name in theory or {}:
        if name not in chosen:
            raise unknown("theory exponent", name, chosen)
    found = _lr_groups(runs, chosen) if "lr" in runs else []
    asked = None if compare is None else keys_of(compare)
    results = [
        _group(group, theory or {}, chosen, draws, [seed, place], _sized(target)) for place, group in enumerate(found)
    ]
    if not results:
        results = [
            _bare(key, rows, draws, [seed, place], _sized(target)) for place, (key, rows) in enumerate(_by_names(runs))
        ]
    done = [
        judged(
            group,
            _rows_of(runs, group.key),
            names=laws,
            keys=_keys(asked, group),
            target=target,
            draws=draws,
            entropy=[seed, place],
        )
        for place, group in enumerate(results)
    ]
    if not any(group.lr_fits or group.joint or group.loss_fits or group.optima for group in done):
        reasons = "; ".join(dict.fromkeys(reason for group in done for reason in group.not_fitted.values()))
        raise Refused(f"no law could be fitted: {reasons}")
    return Laws(
        groups=done,
        theory=dict(theory or {}),
        seed=seed,
        draws=draws,
        template=_json(template),
        sources=list(sources),
        conventions=dict(conventions or {}),
    )


def _lr_groups(runs: pd.DataFrame, scales: Sequence[str]) -> list[Group]:
    present = [name for name in scales if name in runs]
    # A law needs several learning rates a scale; a ladder with one run a scale is for loss laws alone.
    if runs.groupby([*NAMES, *present])["log2_lr"].nunique().max() < 2:
        return []
    found = grouped(runs, scales=present)
    if all(len(group.cells) < 2 for group in found):
        at = ", ".join(f"{name} {value:g}" for name, value in found[0].cells[0].scale.items())
        raise Refused(f"one scale only ({at}): a law needs two scales or more with equal settings; train another")
    if all(np.isnan(cell.loss_SL).all() for group in found for cell in group.cells):
        lowest = min(float(cell.log2_lr_L[0]) for group in found for cell in group.cells)
        raise Refused(f"every run diverged, down to LR {2**lowest:.3g}: try lower LRs, from {2 ** (lowest - 3):.3g} up")
    return found


def _group(
    group: Group, theory: Mapping[str, float], scales: Sequence[str], draws: int, entropy: list[int], sized: bool | None
) -> GroupLaws:
    stages = two_stage(group, scales=scales, theory=theory, draws=draws, entropy=entropy)
    not_fitted = dict(stages.not_fitted)
    joint = _joint(group.runs, draws, entropy, sized, not_fitted)
    return GroupLaws(
        key=dict(group.key),
        noise=stages.noise,
        optima=stages.optima,
        lr_fits=stages.fits,
        joint=joint,
        setting_fits={},
        loss_fits={},
        loss_scores=(),
        validation=None,
        compared=(),
        cards=(),
        not_fitted=not_fitted,
        n_runs=sum(cell.n_runs for cell in group.cells),
        n_diverged=sum(cell.n_diverged for cell in group.cells),
        n_failed=group.n_failed,
        n_repeated=group.n_repeated,
    )


def _keys(asked: list[str] | None, group: GroupLaws) -> list[str]:
    """The published laws to compare: those asked for, or the usual ones where no parametrization is stated.

    They are about the learning rate of every tensor, not about the base's, which a parametrization scales.
    """
    if asked is not None:
        return asked
    return keys_of(USUAL) if group.key.get("parametrization") == "unstated" else []


def _sized(target: Mapping[str, float] | None) -> bool | None:
    """Whether a target speaks of parameters or of shape; None where of neither or both."""
    counted, shaped = (any(name in (target or {}) for name in names) for names in (PARAMS, ("width", "depth")))
    return None if counted == shaped else counted


def _by_names(runs: pd.DataFrame) -> list[tuple[dict[str, str | float], pd.DataFrame]]:
    return [(dict(zip(NAMES, map(str, key), strict=True)), rows) for key, rows in runs.groupby(list(NAMES), sort=True)]


def _joint(
    runs: pd.DataFrame, draws: int, entropy: Sequence[int], sized: bool | None, not_fitted: dict[str, str]
) -> Joint | None:
    try:
        return fit_joint(runs, draws=draws, rng=np.random.default_rng([*entropy, *b"joint"]), sized=sized)
    except Refused as refusal:
        not_fitted["joint"] = str(refusal)
        return None


def _bare(
    key: dict[str, str | float], rows: pd.DataFrame, draws: int, entropy: list[int], sized: bool | None
) -> GroupLaws:
    """A group without learning rates to compare: laws of the loss, and of the batch where that was swept."""
    tried = rows[rows["outcome"] != "FAILED"]
    kept = tried.drop_duplicates([name for name in tried if name != "run"])
    not_fitted: dict[str, str] = {}
    swept = any(name in kept and kept[name].nunique() > 1 for name in COVARIATES)
    joint = _joint(kept, draws, entropy, sized, not_fitted) if swept else None
    return GroupLaws(
        key=key, noise=None, optima=[], lr_fits={}, joint=joint, setting_fits={}, loss_fits={}, loss_scores=(),
        validation=None, compared=(), cards=(), not_fitted=not_fitted, n_runs=len(kept),
        n_diverged=int((kept["outcome"] == "DIVERGED").sum()), n_failed=len(rows) - len(tried),
        n_repeated=len(tried) - len(kept),
    )  # fmt: skip


def _rows_of(runs: pd.DataFrame, key: Mapping[str, str | float]) -> pd.DataFrame:
    kept = np.logical_and.reduce([runs[name] == value for name, value in key.items()])
    return runs.loc[np.asarray(kept) & (runs["outcome"] != "FAILED").to_numpy()]


def _json(template: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if template is None:
        return None
    try:
        return dict(json.loads(json.dumps(dict(template), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise Refused(f"template: accepted is what JSON can hold ({error}); pass plain numbers, text, lists") from error
