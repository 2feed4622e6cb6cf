"""Sanity of a file in our columns: what mixed conventions and swapped columns look like, said before a fit sees it."""

from collections.abc import Callable

import numpy as np

from scalelab.readers.choose import option
from scalelab.readers.draft import Draft

FAR, ABSURD = 3.0, 100.0  # factors between stated FLOPs and 6ND: another way to count, another unit
MAX_LR = 10.0  # above it, a column is more likely a logarithm or a step count than a rate


def learning_rates(draft: Draft) -> Draft:
    if "lr" not in draft:
        return draft
    lr, said = draft["lr"].astype(float), draft.theirs["lr"]
    odd = (lr < 0) | (lr > MAX_LR)
    if odd.any():
        raise draft.refused(
            f"{said} is {lr[odd].iloc[0]:.4g} at {int(odd.sum())} of {len(lr)} rows, and a learning rate is between 0"
            f" and {MAX_LR:g}: if it is a logarithm write {option('log10_lr', draft.name('lr'))} (or log2_lr, log_lr)"
        )
    return draft


def losses(draft: Draft) -> Draft:
    if "loss_nats" not in draft or "outcome" in draft:
        return draft
    missing = ~np.isfinite(draft["loss_nats"].astype(float))
    if missing.any():
        return draft.note(
            f"{int(missing.sum())} of {len(missing)} rows have no finite loss and count as diverged: give an outcome"
            " column (OK, DIVERGED, FAILED) if some failed for other reasons"
        )
    return draft


def swapped(draft: Draft) -> Draft:
    if "tokens" not in draft or not draft.counted:
        return draft
    name = draft.counted[0]
    if (draft[name] > 1e3 * draft["tokens"]).all():
        return draft.note(
            f"{draft.theirs[name]} is more than 1000 × {draft.theirs['tokens']} in every row: are parameters and"
            " tokens swapped?"
        )
    return draft


def one_step(draft: Draft) -> Draft:
    if "tokens" not in draft or "batch_tokens" not in draft:
        return draft
    short = draft["tokens"] < draft["batch_tokens"]
    if short.any():
        row = int(short.to_numpy().argmax())
        tokens, batch = draft["tokens"].iloc[row], draft["batch_tokens"].iloc[row]
        raise draft.refused(
            f"{int(short.sum())} of {len(short)} rows train on fewer tokens than a batch ({draft.theirs['tokens']}"
            f" {tokens:.4g}, batch {batch:.4g} tokens): check the units of both"
        )
    return draft


def stated_flops(draft: Draft) -> Draft:
    """FLOPs against 6ND: what is far off was counted otherwise or with another N, what is absurd in another unit."""
    if not {"cost_flops", "tokens"} <= set(draft.columns) or not draft.counted or "tokens" not in draft.theirs:
        return draft
    if draft.conventions.get("tokens", "").startswith("derived"):
        return draft
    name = "params_active" if "params_active" in draft else draft.counted[0]
    factor = (draft["cost_flops"] / (6 * draft[name] * draft["tokens"])).astype(float)
    off = np.maximum(factor, 1 / factor)
    said = f"{draft.theirs['cost_flops']} is {factor.median():.3g} × 6ND (N of {draft.theirs[name]})"
    if (off > ABSURD).mean() > 0.5:
        raise draft.refused(
            f"{said} in the median: one of FLOPs, parameters and tokens is in another unit; accepted are single FLOPs,"
            f" parameters, tokens, or --column tokens_billions=THEIRS, --column {name}_millions=THEIRS"
        )
    if (off > FAR).mean() > 0.5:
        return draft.note(f"{said} in the median: exact FLOPs, or another N than the one given")
    return draft


def checkpoints(draft: Draft) -> Draft:
    if "run" not in draft or "tokens" not in draft:
        return draft
    several = draft["tokens"].groupby(draft["run"]).agg(["size", "nunique"])
    curves = several[(several["size"] > 1) & (several["nunique"] == several["size"])]
    if len(curves):
        return draft.note(
            f"{len(curves)} of {len(several)} runs have rows at several numbers of tokens (up to"
            f" {int(curves['size'].max())}): checkpoints of one run are kept, and are not independent"
        )
    return draft


CHECKS: tuple[Callable[[Draft], Draft], ...] = (learning_rates, losses, swapped, one_step, stated_flops, checkpoints)


def checked(draft: Draft) -> Draft:
    """The draft with what is odd about it in its notes.

    Raises:
        Refused: on what cannot be meant.
    """
    for check in CHECKS:
        draft = check(draft)
    return draft
