"""What a parametrization is: a table of `Rule`s, one for each role a tensor plays and each optimizer family.

The abc-parametrization of Tensor Programs IV/V (arXiv:2011.14522, arXiv:2203.03466) says for every tensor how its
forward multiplier (a), init scale (b) and learning rate (c) move with scale. Weight decay and Adam's epsilon stand
beside them, always, because they are where published implementations disagree.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from scalelab.errors import Refused
from scalelab.scale import ONE, Power


class Role(StrEnum):
    """What a tensor does, as far as a transfer rule can tell.

    EMBEDDING maps finite (vocabulary) to width, HIDDEN width to width, READOUT width to finite. GAIN and BIAS are
    vectors: fan_in 1, fan_out their length. TIED is an embedding that is also the readout; its ratios are those of an
    embedding and its multiplier applies where it reads out.
    """

    EMBEDDING = "embedding"
    HIDDEN = "hidden"
    GAIN = "gain"
    BIAS = "bias"
    READOUT = "readout"
    TIED = "tied"


IN_BLOCKS = (Role.HIDDEN, Role.GAIN, Role.BIAS)  # roles with a depth rule; their ratio is 1 outside the blocks


class Family(StrEnum):
    """Optimizers that share their exponents: ADAM (Adam, AdamW), SGD (with or without momentum)."""

    ADAM = "adam"
    SGD = "sgd"


class Site(StrEnum):
    """A place in the forward pass whose multiplier belongs to no parameter."""

    ATTENTION = "attention logits"
    RESIDUAL = "residual branch"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The factors on a tensor's base values: multiplier (forward), init (standard deviation), lr, weight_decay, eps.

    Weight decay is in torch's convention, where a step decays by lr·weight_decay (coupled to the learning rate). `eps`
    is the term added after the square root, None for optimizers that have none.
    """

    multiplier: Power
    init: Power
    lr: Power
    weight_decay: Power
    eps: Power | None

    def shifted(self, theta: Power, family: Family) -> "Rule":
        """The same training trajectory with the multiplier larger by `theta` (abc-symmetry, TP-V Lemma J.1).

        W = multiplier · w, so init goes by 1/θ. Adam's step ignores the gradient's scale: lr by 1/θ, and eps with the
        gradient, by θ. SGD's step carries it: lr by 1/θ². Weight decay keeps lr·weight_decay as it was.
        """
        lr = theta**-1 if family is Family.ADAM else theta**-2
        return Rule(
            multiplier=self.multiplier * theta,
            init=self.init / theta,
            lr=self.lr * lr,
            weight_decay=self.weight_decay / lr,
            eps=None if self.eps is None else self.eps * theta,
        )


@dataclass(frozen=True, kw_only=True)
class Parametrization:
    """A named table of rules with its source.

    `rules` maps (Role, Family) to a `Rule`; an absent cell refuses. `sites` gives the multipliers that belong to no
    parameter. `transfers` names the scales over which the table claims that the optimal base learning rate stays.
    `notes` says where the source is silent, or where others do it differently.
    """

    name: str
    title: str
    source: str
    rules: Mapping[tuple[Role, Family], Rule]
    sites: Mapping[Site, Power]
    transfers: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())

    def rule(self, role: Role, family: Family) -> Rule:
        """The rule for one role under one optimizer family; `Refused` where the table has none."""
        if (role, family) not in self.rules:
            covered = ", ".join(f"{r}/{f}" for r, f in self.rules)
            raise Refused(f"parametrization {self.name!r} has no rule for {role}/{family}: it covers {covered}")
        return self.rules[role, family]

    def shifted(self, thetas: Mapping[Role, Power]) -> "Parametrization":
        """An equivalent form of this table, each role's multiplier moved by its theta.

        TIED cells are left out: one tensor that is read in two places cannot absorb a shift of one of them.
        """
        rules: dict[tuple[Role, Family], Rule] = {
            (role, family): rule.shifted(thetas.get(role, ONE), family)
            for (role, family), rule in self.rules.items()
            if role is not Role.TIED
        }
        return replace(self, name=f"{self.name}-shifted", title=f"{self.title}, another form", rules=rules)

    def folded(self) -> "Parametrization":
        """The equivalent table whose parameters have no forward multiplier (init, lr and eps carry it instead)."""
        thetas = {role: rule.multiplier**-1 for (role, _), rule in self.rules.items()}
        return replace(self.shifted(thetas), name=f"{self.name}-folded", title=f"{self.title}, without multipliers")

    @property
    def digest(self) -> str:
        """Twelve hex digits over every cell: a run under an edited table is another run."""
        cells = [f"{role}/{family}:{rule!r}" for (role, family), rule in sorted(self.rules.items())]
        sites = [f"{site}:{cell!r}" for site, cell in sorted(self.sites.items())]
        return hashlib.sha256("\n".join(cells + sites).encode()).hexdigest()[:12]
