"""A member that has ended → its trial."""

import math

import torch

from scalelab.train.member import Member
from scalelab.trials import Outcome, Trial

DIVERGED_ABOVE_START_NATS = 1.0  # assumed: a run that ends this much worse than it began has diverged


def validated(member: Member, device: str, beside: int, loss: tuple[float, float]) -> Trial:
    """The trial of a member that has come to its horizon, with its validation loss and the standard error of that."""
    mean, start = loss[0], member.first_loss
    if mean <= start + DIVERGED_ABOVE_START_NATS:
        return ended(member, device, beside, loss=loss)
    reason = f"validation loss {mean:.3f} against {start:.3f} nats at the start"
    return ended(member, device, beside, diverged=reason)


def ended(
    member: Member,
    device: str,
    beside: int,
    *,
    steps: int | None = None,
    loss: tuple[float, float] | None = None,
    diverged: str | None = None,
    pruned: str | None = None,
) -> Trial:
    """The trial of a member.

    Args:
        member: who has ended.
        device: a torch device.
        beside: how many were trained together at the end.
        steps: those that were trained; the member's by default.
        loss: mean validation loss and its standard error, nats a token, of a run that went well.
        diverged, pruned: why it did not go to its end.
    """
    spec, (mean, error) = member.spec, loss if loss is not None else (None, None)
    bytes_per_token = spec.data.bytes_per_token
    in_bits = None if mean is None or bytes_per_token is None else mean / math.log(2) / bytes_per_token
    tokens = (member.step if steps is None else steps) * spec.horizon.batch_tokens
    return Trial(
        spec=spec,
        outcome=Outcome.DIVERGED if diverged else Outcome.PRUNED if pruned else Outcome.OK,
        loss_nats=mean,
        loss_se_nats=error if error is not None and math.isfinite(error) else None,
        loss_bits_per_byte=in_bits,
        train_loss_nats=None if diverged else member.last_loss,
        tokens_seen=tokens,
        cost_flops=round(spec.cost_flops * tokens / spec.horizon.tokens),
        trunk_tokens=min(tokens, member.trunk_steps * spec.horizon.batch_tokens),
        seconds=member.seconds,
        energy_joules=None if math.isnan(member.joules) else member.joules,
        reason=diverged or pruned,
        provenance={
            "torch": torch.__version__,
            "device": device,
            "threads": str(torch.get_num_threads()),
            "members": str(beside),
            **({"trunk": member.trunk} if member.trunk else {}),
        },
    )
