"""Weight decay: one convention, converters to the others, and the named policies for how it moves with scale.

Here λ is torch's: a step multiplies a parameter by 1 − lr_t·λ, with the lr of that parameter. The literature's
disagreements about λ are disagreements about lr·λ, so a policy is stated against the learning rate's own cell.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from scalelab.errors import unknown
from scalelab.parametrizations.table import UNDECAYED, Role, Rule
from scalelab.scale import ONE, Cell, Power

HALF = Fraction(1, 2)
TPP_EXPONENT = Fraction(-527, 1000)  # of the optimal τ in tokens a parameter: Power Lines (arXiv:2505.13738)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How weight decay moves: `cell` gives a role's λ factor from its rule, None where the role is not decayed."""

    title: str
    source: str
    cell: Callable[[Role, Rule], Cell | None]


def _table(role: Role, rule: Rule) -> Cell | None:
    return rule.weight_decay


def _constant(role: Role, rule: Rule) -> Cell | None:
    return ONE


def _independent(role: Role, rule: Rule) -> Cell | None:
    return rule.lr**-1


def _root_width(role: Role, rule: Rule) -> Cell | None:
    return Power(fan_in=HALF) if role in (Role.HIDDEN, Role.EXPERT) else None


def _inverse_width(role: Role, rule: Rule) -> Cell | None:
    width = Power(fan_in=-1) if role in (Role.HIDDEN, Role.EXPERT, Role.READOUT, Role.ROUTER) else Power(fan_out=-1)
    return rule.lr**-1 * width


def _ema(role: Role, rule: Rule) -> Cell | None:
    return rule.lr**-1 * Power(batch=1, tokens=-1)


def _power_lines(role: Role, rule: Rule) -> Cell | None:
    return rule.lr**-1 * Power(batch=1, tokens=-1) * (Power(tokens=1, params=-1) ** -TPP_EXPONENT)


POLICIES: dict[str, Policy] = {
    "table": Policy(title="as the parametrization's table says", source="the table's", cell=_table),
    "constant": Policy(
        title="λ constant, so lr·λ falls with lr",
        source="TP-V (arXiv:2203.03466) App. B.3; Megatron-LM",
        cell=_constant,
    ),
    "independent": Policy(
        title="lr·λ constant",
        source="mup 1.0.0 MuAdamW; u-muP (arXiv:2407.17465); Wortsman et al. (arXiv:2309.14322)",
        cell=_independent,
    ),
    "root_width": Policy(
        title="λ ∝ √m on matrices, none on vector-like tensors: keeps the top singular value's √(η/λ)·m^¾",
        source="Robust layerwise scaling (arXiv:2510.15262)",
        cell=_root_width,
    ),
    "inverse_width": Policy(title="lr·λ ∝ 1/width", source="Qiu et al. (arXiv:2512.05620), code", cell=_inverse_width),
    "ema": Policy(
        title="the time scale 1/(lr·λ) is a constant number of epochs (here of runs: tokens/batch steps)",
        source="Wang & Aitchison (arXiv:2405.13698)",
        cell=_ema,
    ),
    "power_lines": Policy(
        title="τ = B/(lr·λ·D) ∝ (tokens a parameter)^-0.527",
        source="Power Lines (arXiv:2505.13738) eq. 2–4",
        cell=_power_lines,
    ),
}


def with_policy(rule: Rule, role: Role, policy: str) -> Rule | None:
    """The rule with the policy's weight decay; None where such a tensor is not decayed; `Refused` if unknown."""
    if policy not in POLICIES:
        raise unknown("weight_decay_policy", policy, POLICIES)
    cell = None if role in UNDECAYED else POLICIES[policy].cell(role, rule)
    return None if cell is None else replace(rule, weight_decay=cell)


def to_independent(weight_decay: float, lr: float) -> float:
    """torch's λ → that of a decay by s_t·λ with the schedule s_t ∈ [0, 1] alone (Loshchilov & Hutter's form).

    >>> to_independent(0.1, lr=0.01)
    0.001
    """
    return weight_decay * lr


def from_independent(weight_decay: float, lr: float) -> float:
    """The converse of `to_independent`."""
    return weight_decay / lr


def to_unadjusted(weight_decay: float, lr: float, unadjusted: float) -> float:
    """torch's λ → that of an optimizer that steps with `lr` and decays with another (torch.optim.Muon: its own lr
    before the shape factor).

    >>> to_unadjusted(0.1, lr=0.04, unadjusted=0.02)
    0.2
    """
    return weight_decay * lr / unadjusted
