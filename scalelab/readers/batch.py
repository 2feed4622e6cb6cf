"""Batch, steps and tokens: three columns of which two give the third, and a unit that is seldom stated."""

import numpy as np

from scalelab.readers.choose import option
from scalelab.readers.draft import Draft
from scalelab.readers.names import UNSTATED_BATCH

AGREE = 0.01  # tokens and steps × batch may differ by this, relative: the last step, a rounded budget
WHY = "tokens/(batch · steps)"
SEQUENCE_LENGTHS = tuple(2**n for n in range(7, 17))


def batch_and_steps(draft: Draft) -> Draft:
    """`batch_tokens` and `tokens` from what is stated of batch, sequences and steps; neither is made up.

    Raises:
        Refused: where told columns contradict each other or lack what they are converted with.
    """
    a_batch = UNSTATED_BATCH in draft or "batch_sequences" in draft
    if UNSTATED_BATCH in draft:
        draft = _which_unit(draft)
    if "batch_sequences" in draft:
        draft = _from_sequences(draft)
    if "batch_tokens" in draft and "batch" not in draft.conventions:
        draft = draft.convention("batch", f"tokens, {draft.theirs['batch_tokens']}")
    if "steps" in draft:
        draft = _with_steps(draft, a_batch=a_batch)
    if "batch_sequences" not in draft:
        draft = draft.left_out("sequence_length")
    return draft.without([UNSTATED_BATCH, "batch_sequences", "sequence_length", "steps"])


def _which_unit(draft: Draft) -> Draft:
    """A batch of unknown unit is what makes batch × steps × L = tokens, with one L in every row; otherwise left out."""
    said, theirs = draft.theirs[UNSTATED_BATCH], draft.name(UNSTATED_BATCH)
    if "sequence_length" in draft.told:
        return draft.put("batch_sequences", draft[UNSTATED_BATCH], said)
    tried = ""
    if "steps" in draft and "tokens" in draft:
        length = (draft["tokens"] / (draft[UNSTATED_BATCH] * draft["steps"])).astype(float)
        if (np.abs(length - 1) <= AGREE).all():
            counted = f"tokens, {said}, as {WHY} = 1"
            return draft.put("batch_tokens", draft[UNSTATED_BATCH], said).convention("batch", counted)
        if "sequence_length" in draft and (np.abs(length / draft["sequence_length"] - 1) <= AGREE).all():
            return draft.put("batch_sequences", draft[UNSTATED_BATCH], said)
        for accepted in SEQUENCE_LENGTHS if "sequence_length" not in draft else ():
            if (np.abs(length / accepted - 1) <= AGREE).all():
                counted = f"tokens, {said} in sequences of {accepted} tokens, from {WHY}"
                return draft.put("batch_tokens", draft[UNSTATED_BATCH] * accepted, said).convention("batch", counted)
        tried = f", and {WHY} is {length.min():.4g} to {length.max():.4g}, no one length of a sequence"
    length_too = "" if "sequence_length" in draft else " --column sequence_length:=2048"
    return draft.left_out(
        UNSTATED_BATCH,
        f"{said} is left out: whether it counts tokens or sequences is not stated{tried}; write"
        f" {option('batch_tokens', theirs)}, or {option('batch_sequences', theirs)}{length_too}",
    )


def _from_sequences(draft: Draft) -> Draft:
    said = draft.theirs["batch_sequences"]
    if "sequence_length" not in draft:
        sentence = f"{said} is in sequences: tokens need --column sequence_length:=2048, with your length (or a column)"
        if "batch_sequences" in draft.told:
            raise draft.refused(sentence)
        return draft.left_out("batch_sequences", f"{said} is left out: it {sentence.removeprefix(said + ' ')}")
    length = draft["sequence_length"]
    times = f"{length.iloc[0]:g}" if length.nunique() == 1 else draft.theirs["sequence_length"]
    return draft.put("batch_tokens", draft["batch_sequences"] * length, said).convention(
        "batch", f"tokens, {said} in sequences × {times}"
    )


def _with_steps(draft: Draft, *, a_batch: bool) -> Draft:
    """The third of steps, batch and tokens; `a_batch` says that the file has a batch, usable or not."""
    steps, said = draft["steps"], draft.theirs["steps"]
    if "batch_tokens" in draft and "tokens" not in draft:
        tokens = steps * draft["batch_tokens"]
        return draft.put("tokens", tokens, f"{said} × batch").convention("tokens", f"{said} × batch")
    if "batch_tokens" in draft:
        differ = np.abs(steps * draft["batch_tokens"] / draft["tokens"] - 1) > AGREE
        if not differ.any():
            return draft
        row = int(differ.to_numpy().argmax())
        product, tokens = (steps * draft["batch_tokens"]).iloc[row], draft["tokens"].iloc[row]
        sentence = (
            f"{said} × batch is {product:.4g} tokens and {draft.theirs['tokens']} says {tokens:.4g}, and at"
            f" {int(differ.sum())} of {len(differ)} rows they differ by more than 1 %"
        )
        if "steps" in draft.told:
            raise draft.refused(f"{sentence}: check the length of a sequence, or leave out steps")
        return draft.left_out("steps", f"{sentence}: steps are not used")
    if "tokens" in draft and not a_batch:
        batch = draft["tokens"] / steps
        if (batch == batch.round()).all() and np.isfinite(batch).all():
            whole = batch.iloc[0] if batch.nunique() == 1 else "a whole number in every row"
            shown = f"{whole:.0f}" if not isinstance(whole, str) else whole
            return draft.put("batch_tokens", batch, f"{draft.theirs['tokens']} / {said}").convention(
                "batch", f"tokens, {draft.theirs['tokens']} / {said}, {shown}"
            )
    return draft.left_out("steps")
