"""Over-training: at a fixed ratio M of tokens to parameters loss is a power of compute, with one exponent for every M
(Gadre et al. 2024, arXiv:2403.08540).

It is Chinchilla with equal exponents 2·eta, written in M and compute. Parameters count embeddings; compute is 6·N·D.
"""

import numpy as np

from scalelab.laws.forms import designs, terms
from scalelab.laws.law import Array, Law, Parameter

TERMS = (
    terms.Term("E"),
    terms.Term("a", grows={"tokens_per_param": "eta"}, falls={"cost_flops": "eta"}),
    terms.Term("b", falls={"tokens_per_param": "eta", "cost_flops": "eta"}),
)
PARAMETERS = {
    "E": Parameter(meaning="irreducible loss, nats", typical=1.8),
    "a": Parameter(meaning="nats from too few parameters, at 1 FLOP and M = 1", typical=160.0),
    "b": Parameter(meaning="nats from too few tokens, at 1 FLOP and M = 1", typical=250.0),
    "eta": Parameter(meaning="exponent in compute", typical=0.127, positive=False),
}


def _design(rng: np.random.Generator, n: int) -> dict[str, Array]:
    drawn = designs.log_uniform(params=designs.PARAMS, tokens_per_param=(5.0, 640.0))(rng, n)
    ratio = drawn["tokens_per_param"]
    return {"cost_flops": 6 * drawn["params"] ** 2 * ratio, "tokens_per_param": ratio}


def _entry(data: str, E: float, a: float, b: float, eta: float, refitted: str) -> dict[str, object]:
    return {
        "parameters": {"E": E, "a": a, "b": b, "eta": eta},
        "source": f"Gadre et al. (arXiv:2403.08540), trained on {data}, validation loss on C4",
        "checked": "reproduced from the released runs",
        "columns": {"params": "params_total"},
        "note": f"rounded; from five runs, which give E, a, b, eta = {refitted}",
    }


GADRE = Law(
    name="gadre",
    inputs=("cost_flops", "tokens_per_param"),
    output="loss_nats",
    parameters=PARAMETERS,
    form="loss = E + (a·M^eta + b·M^-eta)·C^-eta",
    source="Gadre et al. (arXiv:2403.08540)",
    value=terms.value(TERMS),
    starts=terms.starts(TERMS, {"eta": tuple(np.geomspace(0.02, 0.6, 40))}),
    derivatives=terms.derivatives(TERMS, list(PARAMETERS)),
    design=_design,
    coefficients={
        "c4": _entry("C4", 1.51, 141.0, 190.0, 0.121, "1.508, 141.3, 189.5, .1212"),
        "redpajama": _entry("RedPajama", 1.84, 212.0, 367.0, 0.136, "1.837, 212.2, 366.7, .1364"),
        "refinedweb": _entry("RefinedWeb", 1.73, 157.0, 246.0, 0.127, "1.734, 157.1, 246.2, .1272"),
    },
)
