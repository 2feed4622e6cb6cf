"""muP with SOAP's updates taken as they come: dense, not orthogonal.

The published exponent, √(fan_out/fan_in), is that of one gradient in its own basis, where few entries are large. Over a
sequence of batches Adam brings the small entries of that basis to the size of the large ones: the update becomes dense,
with a spectral norm of √fan_in more, and activations change by √width (measured: tests/probe/test_matrix.py). The rate
here is smaller by that.
"""

from dataclasses import replace
from fractions import Fraction

from scalelab.parametrizations.mup import MUP
from scalelab.parametrizations.table import Family, Role, Rule
from scalelab.scale import Power


def _dense(role: Role, family: Family, rule: Rule) -> Rule:
    if family is not Family.SOAP or role not in (Role.HIDDEN, Role.EXPERT):
        return rule
    root = Power(fan_in=Fraction(-1, 2))
    return replace(rule, lr=rule.lr * root, weight_decay=rule.weight_decay / root)


MUP_SOAP_DENSE = replace(
    MUP,
    name="mup_soap_dense",
    title="muP with SOAP's updates taken as dense",
    source="TP-V (arXiv:2203.03466) Table 8 for Adam's cells; SOAP's: measured in the coordinate check, not published",
    rules=MUP.edited(_dense, (Family.ADAM, Family.SOAP)),
    notes=("Of SOAP without blocks, on matrices up to 512 wide; where its bases have settled was not measured.",),
)
