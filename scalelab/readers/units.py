"""From the units of a file to ours. Nothing is converted that was not stated, and what is converted is said."""

from collections.abc import Callable

import numpy as np

from scalelab.readers.batch import batch_and_steps
from scalelab.readers.choose import option
from scalelab.readers.draft import Draft
from scalelab.readers.loss import loss
from scalelab.readers.request import SCALED

LOG_LR: dict[str, float] = {"log_lr": np.e, "log2_lr": 2.0, "log10_lr": 10.0}
COUNTS: dict[str, str] = {
    "params_non_embedding": "without embeddings",
    "params_total": "with embeddings, all experts",
    "params_active": "those that one token meets",
    "params": "with or without embeddings not stated",
}
# How the words of other programs for the end of a run read here. What is cut short is not a result.
ENDINGS: dict[str, str] = {
    **dict.fromkeys(("ok", "finished", "complete", "completed", "success", "succeeded", "done"), "OK"),
    **dict.fromkeys(("diverged", "nan"), "DIVERGED"),
    **dict.fromkeys(("failed", "fail", "crashed", "killed", "preempted", "pruned", "running", "waiting"), "FAILED"),
}


def scaled(draft: Draft) -> Draft:
    """Counts in millions and billions."""
    for name in [name for name in SCALED if name in draft]:
        ours, factor = SCALED[name]
        draft = draft.put(ours, draft[name] * factor, draft.theirs[name]).without([name])
    return draft


def learning_rate(draft: Draft) -> Draft:
    for name in [name for name in LOG_LR if name in draft]:
        draft = draft.put("lr", LOG_LR[name] ** draft[name], f"{draft.theirs[name]}, {name}").without([name])
    if "lr" not in draft:
        return draft
    said = draft.theirs["lr"]
    return draft.convention("lr", f"peak, from {said}" + ("" if "lr" in draft.told else " (taken as the peak)"))


def parameters(draft: Draft) -> Draft:
    """Which count a law may use: a stated one, and one that is not stated only where there is no other."""
    stated = [name for name in draft.counted if name != "params"]
    if "params" in draft and "params" not in draft.told:
        if stated:
            said = draft.theirs["params"]
            draft = draft.left_out(
                "params",
                f"{said} is left out: {draft.theirs[stated[0]]} says what it counts and {said} does not; give it with"
                f" {option('params_total', draft.name('params'))} if it counts embeddings too",
            )
        else:
            draft = draft.note(
                f"{draft.theirs['params']} counts parameters, with or without embeddings is not stated: say it with"
                f" {option('params_non_embedding', draft.name('params'))} (or params_total, params_active)"
            )
    counted = [f"{COUNTS[name]} ({name})" for name in draft.counted]
    return draft.convention("params", "; ".join(counted)) if counted else draft


def compute(draft: Draft) -> Draft:
    """FLOPs as they are stated; tokens from them, by C = 6ND, where a table has no other way to know."""
    if "flops_per_token" in draft:
        if "cost_flops" not in draft and "tokens" in draft:
            cost = draft["flops_per_token"] * draft["tokens"]
            draft = draft.put("cost_flops", cost, f"{draft.theirs['flops_per_token']} × tokens")
        elif "flops_per_token" in draft.told:
            raise draft.refused("flops_per_token is used where tokens are known and cost_flops is not: leave it out")
        draft = draft.without(["flops_per_token"])
    if "cost_flops" not in draft:
        return draft.convention("flops", "none stated")
    draft = draft.convention("flops", f"as stated in {draft.theirs['cost_flops']}")
    if "tokens" in draft or len(draft.counted) != 1:
        return draft
    (counted,) = draft.counted
    return (
        draft.put("tokens", draft["cost_flops"] / (6 * draft[counted]), f"{draft.theirs['cost_flops']}, C/(6N)")
        .note(
            f"tokens are derived, D = C/(6N) from {draft.theirs['cost_flops']} and {draft.theirs[counted]}: right where"
            " C was counted as 6ND with the same N; otherwise give tokens with --column tokens=THEIRS"
        )
        .convention("tokens", "derived, C/(6N)")
    )


def outcomes(draft: Draft) -> Draft:
    """The words of other programs as ours; a run that is done and has no finite loss has diverged."""
    if "outcome" not in draft:
        return draft
    said = draft["outcome"].astype(str).str.lower()
    if not said.isin(ENDINGS).all():
        if "outcome" in draft.guessed:
            odd = said[~said.isin(ENDINGS)].iloc[0]
            return draft.left_out(
                "outcome", f"{draft.theirs['outcome']} is left out: {odd!r} is no outcome (OK, DIVERGED, FAILED)"
            )
        return draft  # our own column: the fit checks its words
    outcome = said.map(ENDINGS)
    if "outcome" in draft.guessed and "loss_nats" in draft:
        outcome = outcome.mask((outcome == "OK") & ~np.isfinite(draft["loss_nats"].astype(float)), "DIVERGED")
        counts = ", ".join(f"{n} {name}" for name, n in outcome.value_counts().items())
        draft = draft.note(f"outcomes are from {draft.theirs['outcome']}, DIVERGED where done without a loss: {counts}")
    return draft.put("outcome", outcome, draft.theirs["outcome"])


STEPS: tuple[Callable[[Draft], Draft], ...] = (
    scaled, learning_rate, loss, batch_and_steps, parameters, compute, outcomes,
)  # fmt: skip


def in_our_units(draft: Draft) -> Draft:
    """The draft with columns of ours only, each convention stated.

    Raises:
        Refused: where a unit lacks what it is converted with, or two columns contradict each other.
    """
    for step in STEPS:
        draft = step(draft)
    return draft
