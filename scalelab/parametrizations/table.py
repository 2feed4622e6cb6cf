"""What a parametrization is: a table of `Rule`s, one for each role a tensor plays and each optimizer family.

The abc-parametrization of Tensor Programs IV/V (arXiv:2011.14522, arXiv:2203.03466) says for every tensor how its
forward multiplier (a), init scale (b) and learning rate (c) move with scale. Weight decay and Adam's epsilon stand
beside them, always, because they are where published implementations disagree.
"""

import hashlib
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction
from functools import cached_property

from scalelab.errors import Refused
from scalelab.scale import ONE, Cell, Power


class Role(StrEnum):
    """What a tensor does, as far as a transfer rule can tell.

    EMBEDDING maps finite (vocabulary, pixels) to width, HIDDEN width to width, READOUT width to finite. ROUTER maps
    width to the experts, whose number does not grow with it; EXPERT is a HIDDEN matrix that only some tokens meet. GAIN
    and BIAS are vectors: fan_in 1, fan_out their length; SCALAR is one number. TIED is an embedding that is also the
    readout; its ratios are those of an embedding and its multiplier applies where it reads out.
    """

    EMBEDDING = "embedding"
    HIDDEN = "hidden"
    GAIN = "gain"
    BIAS = "bias"
    SCALAR = "scalar"
    ROUTER = "router"
    EXPERT = "expert"
    READOUT = "readout"
    TIED = "tied"


# Roles with a depth rule; their ratio is 1 outside the blocks.
IN_BLOCKS = (Role.HIDDEN, Role.GAIN, Role.BIAS, Role.SCALAR, Role.ROUTER, Role.EXPERT)
UNDECAYED = (Role.GAIN, Role.BIAS, Role.SCALAR)  # weight decay is for matrices: TP-V and GPT-2 practice


class Family(StrEnum):
    """Optimizers that share their exponents.

    ADAM: Adam, AdamW, and without an eps Lion and Adam-atan2. SGD: with or without momentum. ADAFACTOR: a step
    normalised to the size of its parameter. MUON: orthogonalised momentum. SHAMPOO: L^-¼ G R^-¼, SHAMPOO_HALF:
    L^-½ G R^-½. SOAP: Adam in Shampoo's basis. KFAC: A^-1, B^-1 of Martens & Grosse.
    """

    ADAM = "adam"
    SGD = "sgd"
    ADAFACTOR = "adafactor"
    MUON = "muon"
    SHAMPOO = "shampoo"
    SHAMPOO_HALF = "shampoo_half"
    SOAP = "soap"
    KFAC = "kfac"

    @property
    def degree(self) -> int:
        """d where a gradient s times as large makes the step s^d times as large."""
        return {Family.SGD: 1, Family.SHAMPOO_HALF: -1, Family.KFAC: -1}.get(self, 0)

    @property
    def parameter_degree(self) -> int:
        """p where a parameter s times as large makes the step s^p times as large."""
        return 1 if self is Family.ADAFACTOR else 0

    @property
    def eps_degree(self) -> int | None:
        """e where eps (or damping) must grow by s^e with a gradient s times as large; None where there is no eps."""
        squared = (Family.SHAMPOO, Family.SHAMPOO_HALF, Family.KFAC)  # it is added to products of two gradients
        return None if self in (Family.SGD, Family.ADAFACTOR) else 2 if self in squared else 1


class Site(StrEnum):
    """A place in the forward pass whose multiplier belongs to no parameter."""

    ATTENTION = "attention logits"
    RESIDUAL = "residual branch"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The factors on a tensor's base values: multiplier (forward), init (standard deviation), lr, weight_decay, eps.

    Weight decay is in torch's convention, where a step decays by lr·weight_decay (coupled to the learning rate). `eps`
    is the term added after the square root (the damping of a second-order optimizer), None for optimizers that have
    none; `eps_input` is K-FAC's other damping, that of the factor of its inputs.
    """

    multiplier: Power
    init: Power
    lr: Cell
    weight_decay: Cell
    eps: Power | None
    eps_input: Power | None = None

    def shifted(self, theta: Power, family: Family) -> "Rule":
        """The same training trajectory with the multiplier larger by `theta` (abc-symmetry, TP-V Lemma J.1).

        W = multiplier · w, so init goes by 1/θ, and the gradient by θ. A step of degree d in the gradient and p in the
        parameter must move W as before: lr by θ^(p−1−d), which is 1/θ for Adam and 1/θ² for SGD; eps follows the
        gradient. Weight decay keeps lr·weight_decay as it was.
        """
        lr = theta ** (family.parameter_degree - 1 - family.degree)
        return replace(
            self,
            multiplier=self.multiplier * theta,
            init=self.init / theta,
            lr=self.lr * lr,
            weight_decay=self.weight_decay / lr,
            eps=None if self.eps is None else self.eps * theta ** (family.eps_degree or 0),
        )

    def deepened(self, alpha: Fraction, family: Family) -> "Rule":
        """The rule inside residual branches that are multiplied by depth^-α.

        The branches' sum moves by depth · depth^-α · step, which must not depend on depth, and a gradient carries
        another depth^-α: with a step of degree d in it, lr ×depth^(α−1+αd), eps ×depth^-αe. For Adam this is
        CompleteP's Table 1 (arXiv:2505.01618), for SGD with α = ½ depth-muP's, for Shampoo with α = 1 that of
        arXiv:2512.05620. Weight decay so that lr·weight_decay moves as it does under Adam.
        """
        return replace(
            self,
            lr=self.lr * Power(depth=alpha - 1 + alpha * family.degree),
            weight_decay=self.weight_decay * Power(depth=-alpha * family.degree),
            eps=None if self.eps is None else self.eps * Power(depth=-alpha * (family.eps_degree or 0)),
        )


@dataclass(frozen=True, kw_only=True)
class Parametrization:
    """A named table of rules with its source.

    `rules` maps (Role, Family) to a `Rule`; an absent cell refuses. `sites` gives the multipliers that belong to no
    parameter. `one_minus_beta` is the factor on 1−β of every moving average. `transfers` names the scales over which
    the table claims that the optimal base learning rate stays. `unit_scaled` says that the network is built of
    unit-scaled operations and that the base is the shape of ones: the table's ratios are then sizes. `notes` says where
    the source is silent, or where others do it differently.
    """

    name: str
    title: str
    source: str
    rules: Mapping[tuple[Role, Family], Rule]
    sites: Mapping[Site, Power]
    transfers: tuple[str, ...]
    one_minus_beta: Power = ONE
    unit_scaled: bool = False
    notes: tuple[str, ...] = field(default=())

    def rule(self, role: Role, family: Family) -> Rule:
        """The rule for one role under one optimizer family; `Refused` where the table has none."""
        if (role, family) not in self.rules:
            roles = [str(covered) for covered, other in self.rules if other is family]
            families = ", ".join(dict.fromkeys(str(other) for _, other in self.rules))
            listed = f"it covers {family}: {', '.join(roles)}" if roles else f"it covers the families {families}"
            raise Refused(f"parametrization {self.name!r} has no rule for {role}/{family}: {listed}")
        return self.rules[role, family]

    def edited(
        self, edit: Callable[[Role, Family, Rule], Rule], families: Container[Family] = tuple(Family)
    ) -> dict[tuple[Role, Family], Rule]:
        """The rules of another table that is this one with each rule edited, as far as `families` go."""
        return {(role, f): edit(role, f, rule) for (role, f), rule in self.rules.items() if f in families}

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

    @cached_property
    def digest(self) -> str:
        """Twelve hex digits over every cell: a run under an edited table is another run."""
        cells = [f"{role}/{family}:{rule!r}" for (role, family), rule in sorted(self.rules.items())]
        sites = [f"{site}:{cell!r}" for site, cell in sorted(self.sites.items())]
        whole = [f"one_minus_beta:{self.one_minus_beta!r}", f"unit_scaled:{self.unit_scaled}"]
        return hashlib.sha256("\n".join(cells + sites + whole).encode()).hexdigest()[:12]
