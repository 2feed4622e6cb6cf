"""CompleteP: muP in width, residual branches scaled by depth^-α, α ∈ {½, 1}; α = 1 is what its authors recommend."""

from dataclasses import replace
from fractions import Fraction

from scalelab.parametrizations.mup import MUP
from scalelab.parametrizations.table import IN_BLOCKS, Family, Parametrization, Rule, Site
from scalelab.scale import Power


def _deepened(family: Family, rule: Rule, alpha: Fraction) -> Rule:
    if family is Family.ADAM:
        # Table 1: LR ×depth^(α−1) for pre-LN, hidden and bias; eps ×depth^−α; weight decay has no depth factor.
        assert rule.eps is not None
        return replace(rule, lr=rule.lr * Power(depth=alpha - 1), eps=rule.eps * Power(depth=-alpha))
    # SGD is not in Table 1. A branch's output moves by lr·depth^−2α (its multiplier, and the gradient's), the sum over
    # depth branches must not depend on depth: lr ×depth^(2α−1). Weight decay so that lr·weight_decay moves as in Adam.
    return replace(
        rule,
        lr=rule.lr * Power(depth=2 * alpha - 1),
        weight_decay=rule.weight_decay * Power(depth=-alpha),
    )


def _completep(name: str, alpha: Fraction) -> Parametrization:
    return Parametrization(
        name=name,
        title=f"CompleteP, α = {alpha}",
        source="CompleteP (arXiv:2505.01618) Table 1; SGD cells derived from the same condition",
        rules={
            (role, family): _deepened(family, rule, alpha) if role in IN_BLOCKS else rule
            for (role, family), rule in MUP.rules.items()
        },
        transfers=("width", "depth"),
        sites={**MUP.sites, Site.RESIDUAL: Power(depth=-alpha)},
        notes=(
            "Table 1 states eps for the residual blocks; outside them eps is muP's 1/m. The authors' public code scales"
            " the eps of every tensor alike, depth included.",
        ),
    )


COMPLETEP = _completep("completep", Fraction(1))
COMPLETEP_HALF = _completep("completep_half", Fraction(1, 2))
