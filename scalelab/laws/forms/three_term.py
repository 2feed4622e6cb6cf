"""Tokens split into steps and batch, E + A/N^α + B/S^β + C/T^γ (Schaipp 2026, arXiv:2607.01487).

Runs at batches that are not optimal are data too, and the batch that suits a budget follows: where B/S^β + C/T^γ is
least at S·T = D.
"""

from scalelab.laws.forms import designs, terms
from scalelab.laws.law import Law, Parameter

TERMS = (
    terms.Term("E"),
    terms.Term("A", falls={"params": "alpha"}),
    terms.Term("B", falls={"steps": "beta"}),
    terms.Term("C", falls={"batch_tokens": "gamma"}),
)
PARAMETERS = {
    "E": Parameter(meaning="irreducible loss, nats", typical=1.2),
    "A": Parameter(meaning="nats that one parameter would leave", typical=160.0),
    "B": Parameter(meaning="nats that one step would leave", typical=5.0),
    "C": Parameter(meaning="nats that a batch of one token would leave", typical=1.6),
    "alpha": Parameter(meaning="exponent in parameters", typical=0.29, positive=False),
    "beta": Parameter(meaning="exponent in steps", typical=0.25, positive=False),
    "gamma": Parameter(meaning="exponent in the batch", typical=0.13, positive=False),
}
THREE_TERM = Law(
    name="three_term",
    inputs=("params", "steps", "batch_tokens"),
    output="loss_nats",
    parameters=PARAMETERS,
    form="loss = E + A/N^alpha + B/steps^beta + C/batch^gamma",
    source="Schaipp (arXiv:2607.01487)",
    value=terms.value(TERMS),
    starts=terms.starts(TERMS),
    derivatives=terms.derivatives(TERMS, list(PARAMETERS)),
    design=designs.log_uniform(params=designs.PARAMS, steps=(1e3, 1e6), batch_tokens=(2.0**14, 2.0**24)),
)
