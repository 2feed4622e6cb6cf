"""The rules of the branch `completep` of nanoGPT-mup: what it computes of its keys, and the keys for given values."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from scalelab.errors import Refused
from scalelab.exporters.fold import times
from scalelab.exporters.handed import Handed, Handoff
from scalelab.parametrizations.table import Role

COMMIT = "6f8bc3b"


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The keys from which the branch derives the values of tensors, by its configure_optimizers and Block."""

    learning_rate: float
    weight_decay: float
    adam_eps: float
    mup_width_multiplier: float
    depth_alpha_enabled: bool
    depth_multiplier: float
    depth_alpha_exp: float

    @property
    def residual(self) -> float:
        """The factor on every branch."""
        return self.depth_multiplier**-self.depth_alpha_exp if self.depth_alpha_enabled else 1.0

    @property
    def depth_lr(self) -> float:
        return self.depth_multiplier ** (self.depth_alpha_exp - 1) if self.depth_alpha_enabled else 1.0

    @property
    def eps(self) -> float:
        """Of every tensor: the branch scales it for all alike, and only where depth_alpha_enabled."""
        return self.adam_eps * (self.residual / self.mup_width_multiplier if self.depth_alpha_enabled else 1.0)

    def computed(self, each: Handed) -> dict[str, float]:
        """lr, weight_decay and eps of a tensor by the branch's rules; it ties the table, whose rate is the base's."""
        m, decay = self.mup_width_multiplier, self.weight_decay
        if each.role is Role.HIDDEN:
            lr = self.learning_rate * self.depth_lr / m
            return {"lr": lr, "weight_decay": decay * m if self.depth_alpha_enabled else decay, "eps": self.eps}
        if each.role is Role.GAIN:
            lr = self.learning_rate * (self.depth_lr if each.tensor.in_block else 1.0)
            return {"lr": lr, "weight_decay": 0.0, "eps": self.eps}
        return {"lr": self.learning_rate, "weight_decay": decay, "eps": self.eps}


def solved(run: Handoff) -> Keys:
    """The keys whose values are the recipe's, if any are: from the table, the first gain and the first query."""
    by_name = run.by_name
    table, gain, query = (
        by_name[n] for n in ("embedding.weight", "blocks.0.attention.norm.gain", "blocks.0.attention.query.weight")
    )
    assert query.eps is not None
    depth_lr = gain.lr / table.lr
    m = depth_lr * table.lr / query.lr
    # depth^-α is the residual factor and depth^(α-1) that of the learning rates in the blocks, so depth = 1/(both).
    depth, alpha = 1 / (run.residual * depth_lr), 1.0
    if not equal(depth, 1.0):
        alpha = -math.log(run.residual) / math.log(depth)
    elif not equal(run.residual, 1.0):
        raise Refused(
            f"residual branches are multiplied by {run.residual:g} and their learning rates by {depth_lr:g}: with keys"
            " depth_multiplier and depth_alpha_exp alone the branch cannot say both; use multipliers.residual=1"
        )
    plain = equal(run.residual, 1.0) and equal(depth_lr, 1.0) and equal(query.weight_decay, table.weight_decay)
    return Keys(
        learning_rate=table.lr,
        weight_decay=table.weight_decay,
        adam_eps=query.eps if plain else query.eps * m / run.residual,
        mup_width_multiplier=m,
        depth_alpha_enabled=not plain,
        depth_multiplier=1.0 if plain else depth,
        depth_alpha_exp=alpha,
    )


def differences(run: Handoff, keys: Keys, *, eps_alike: bool) -> Iterator[str]:
    """Names of the tensors whose eps is not what the branch computes, where that is accepted (`eps_alike`).

    Raises:
        Refused: every other difference, naming the tensor and the field.
    """
    for each in run.tensors:
        # The branch multiplies the sum of both tables, scalelab the token table alone.
        at = times(each, 1 / run.embedding) if each.name == "positions.weight" else each
        for field, computed in keys.computed(at).items():
            value = getattr(at, field)
            if equal(value, computed):
                continue
            if field != "eps" or not eps_alike:
                raise Refused(
                    f"{each.name}: {field} is {value:g} in the recipe and {computed:g} by the rules of nanoGPT-mup"
                    f" ({COMMIT}), {_why(run, each, field)}"
                )
            yield each.name


def _why(run: Handoff, each: Handed, field: str) -> str:
    if each.name == "positions.weight" and not equal(run.embedding, 1.0):
        return f"which multiplies positions too by mup_input_alpha={run.embedding:g}; use multipliers.embedding=1"
    if field == "eps":
        return (
            "which scales eps for all tensors alike; where eps is far below the gradients, give all of them the blocks'"
            " by --set eps=blocks, or sweep under depth_mup, which has one eps"
        )
    return "and no key of its config says it otherwise; sweep under completep, depth_mup or mup with the table's decay"


def equal(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-9)
