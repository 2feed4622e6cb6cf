"""Depth-muP: muP in width, and 1/√depth on every residual branch and on the updates inside it."""

from dataclasses import replace
from fractions import Fraction

from scalelab.parametrizations.mup import MUP
from scalelab.parametrizations.table import IN_BLOCKS, Family, Parametrization, Role, Rule, Site
from scalelab.scale import Power

HALF = Fraction(1, 2)


def _deepened(role: Role, family: Family, rule: Rule) -> Rule:
    # The learning rate only. Under SGD the gradient carries the branch's 1/√depth already (α + γ = 1 with α = γ = ½).
    return replace(rule, lr=rule.deepened(HALF, family).lr) if role in IN_BLOCKS else rule


DEPTH_MUP = Parametrization(
    name="depth_mup",
    title="Depth-muP (Tensor Programs VI)",
    source="TP-VI (arXiv:2310.02244) and arXiv:2309.16620; as restated in u-muP (arXiv:2407.17465) Table 2",
    rules=MUP.edited(_deepened, (Family.ADAM, Family.SGD)),
    transfers=("width", "depth"),
    sites={**MUP.sites, Site.RESIDUAL: Power(depth=-HALF)},
    notes=(
        "The paper gives no depth rule for weight decay or eps: those two columns are muP's. A gradient in the blocks"
        " falls like the branch multiplier, so an eps that is not negligible weighs more in deeper networks;"
        " completep_half scales it.",
    ),
)
