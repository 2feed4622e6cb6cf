"""CompleteP: muP in width, residual branches scaled by depth^-α, α ∈ {½, 1}; α = 1 is what its authors recommend.

Complete(d)P corrects it (eps a class, the readout without a multiplier) and adds factors for batch and token horizon.
"""

from dataclasses import replace
from fractions import Fraction

from scalelab.parametrizations.mup import MUP
from scalelab.parametrizations.table import IN_BLOCKS, Family, Parametrization, Role, Rule, Site
from scalelab.scale import Power

HALF = Fraction(1, 2)


def _completep(name: str, alpha: Fraction) -> Parametrization:
    return Parametrization(
        name=name,
        title=f"CompleteP, α = {alpha}",
        source="CompleteP (arXiv:2505.01618) Table 1; optimizers other than AdamW from the same condition,"
        " second-order ones as arXiv:2512.05620",
        rules=MUP.edited(lambda role, family, rule: rule.deepened(alpha, family) if role in IN_BLOCKS else rule),
        transfers=("width", "depth"),
        sites={**MUP.sites, Site.RESIDUAL: Power(depth=-alpha)},
        notes=(
            "Table 1 states eps for the residual blocks; outside them eps is muP's 1/m. The authors' public code scales"
            " the eps of every tensor alike, depth included.",
        ),
    )


COMPLETEP = _completep("completep", Fraction(1))
COMPLETEP_HALF = _completep("completep_half", HALF)

# Adam as a stochastic differential equation (arXiv:2205.10287) in batch B and in tokens D: steps that see B/D as much
# of the horizon each move √(B/D) as far, remember D/B as many others, and sum gradients √(D/B) as large.
HORIZON = Power(batch=HALF, tokens=-HALF)


def _horizon(role: Role, family: Family, rule: Rule) -> Rule:
    assert rule.eps is not None
    return replace(rule, lr=rule.lr * HORIZON, weight_decay=rule.weight_decay * HORIZON, eps=rule.eps / HORIZON)


def _completed(name: str, form: Parametrization) -> Parametrization:
    folded = form.folded()
    return replace(
        folded,
        name=name,
        title=form.title.replace("CompleteP", "Complete(d)P"),
        source="Complete(d)P (arXiv:2512.22382) Table 1",
        rules=folded.edited(_horizon, (Family.ADAM,)),
        one_minus_beta=Power(batch=1, tokens=-1),
        transfers=("width", "depth", "batch_tokens", "tokens"),
        notes=(
            "Table 3 form: the readout has no multiplier, so its eps does not shrink and its head cannot be tied.",
            "The table gives the last norm's eps no factor; here it has the gain's 1/m, since its gradient falls so.",
        ),
    )


COMPLETED_P = _completed("completed_p", COMPLETEP)
COMPLETED_P_HALF = _completed("completed_p_half", COMPLETEP_HALF)
