"""The optimizers there are, without torch: the family whose exponents each follows, and what it reads of `Hparams`.

To add one: a `torch.optim.Optimizer` in a file here (or torch's own), a line in `OPTIMIZERS`, its construction in
`optim.py`, and a file in conf/optimizer.
"""

from dataclasses import dataclass

from scalelab.errors import unknown
from scalelab.parametrizations.table import Family, Role

MATRICES = (Role.HIDDEN, Role.EXPERT)  # what a matrix optimizer keeps for itself


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """An optimizer, as far as a transfer rule can tell.

    `hands_over` says that it is for matrices of the blocks only: all else is given to AdamW, at `handed_lr_factor`
    times the learning rate. `eps` says whether it has one. `then` names the optimizer that takes the matrices over when
    the learning rate starts to fall ("wsd" schedule). `reads` are the hyperparameters beside lr, weight_decay and
    clip_norm. `check_lr` is the learning rate of the coordinate check where none is given: updates are well above
    rounding there, and no network has left its linear regime, where slopes carry little seed noise.
    """

    title: str
    source: str
    family: Family
    reads: tuple[str, ...]
    check_lr: float
    hands_over: bool = False
    eps: bool = True
    then: str | None = None

    def family_of(self, role: Role) -> Family:
        """The family whose rules a tensor of that role follows."""
        return Family.ADAM if self.hands_over and role not in MATRICES else self.family


ADAM = ("beta1", "beta2", "eps")

# Beside check_lr, measured on transformers of width 64, 128, 256 (4 steps, 2 seeds): the slope farthest from 0 under
# mup (logits by more than their due fall left out), and under sp.
OPTIMIZERS: dict[str, Optimizer] = {
    "adamw": Optimizer(
        title="AdamW",
        source="arXiv:1711.05101; torch.optim.AdamW",
        family=Family.ADAM,
        check_lr=0.005,  # −0.09; +0.90
        reads=ADAM,
    ),
    "sgd": Optimizer(
        title="SGD with momentum",
        source="torch.optim.SGD",
        family=Family.SGD,
        check_lr=0.03,  # +0.06; +0.52
        reads=("momentum",),
        eps=False,
    ),
    "adam_atan2": Optimizer(
        title="Adam with atan2 in place of the quotient: no eps",
        source="arXiv:2407.05872",
        family=Family.ADAM,
        check_lr=0.005,  # −0.09; +0.94
        reads=("beta1", "beta2"),
        eps=False,
    ),
    "lion": Optimizer(
        title="Lion",
        source="arXiv:2302.06675",
        family=Family.ADAM,
        check_lr=0.001,  # −0.04; +0.84
        reads=("beta1", "beta2"),
        eps=False,
    ),
    "adafactor": Optimizer(
        title="Adafactor with steps relative to the parameter",
        source="arXiv:1804.04235",
        family=Family.ADAFACTOR,
        check_lr=0.005,  # −0.03; +0.44
        reads=(),
        eps=False,
    ),
    "muon": Optimizer(
        title="Muon; embedding, readout and vectors by AdamW",
        source="KellerJordan/Muon; Moonlight (arXiv:2502.16982)",
        family=Family.MUON,
        check_lr=0.005,  # +0.11; +0.92, of the logits: square matrices need no rule, what AdamW is handed does
        reads=(*ADAM, "momentum", "shape_factor", "damping", "handed_lr_factor"),
        hands_over=True,
    ),
    "shampoo": Optimizer(
        title="Shampoo, L^-¼ G R^-¼; embedding, readout and vectors by AdamW",
        source="arXiv:1802.09568",
        family=Family.SHAMPOO,
        check_lr=0.005,  # +0.11; +0.92, likewise
        reads=(*ADAM, "damping", "handed_lr_factor"),
        hands_over=True,
    ),
    "shampoo_half": Optimizer(
        title="Shampoo, L^-½ G R^-½; embedding, readout and vectors by AdamW",
        source="arXiv:2309.06497; arXiv:2406.17748",
        family=Family.SHAMPOO_HALF,
        check_lr=1e-4,  # at damping 1e-3: +0.19; at 1e-8 +1.07, for directions that only noise visits are amplified
        reads=(*ADAM, "damping", "handed_lr_factor"),
        hands_over=True,
    ),
    "soap": Optimizer(
        title="SOAP; embedding, readout and vectors by AdamW",
        source="arXiv:2409.11321",
        family=Family.SOAP,
        check_lr=0.001,  # +0.59 (mup_soap_dense: +0.10); +0.76
        reads=(*ADAM, "damping", "handed_lr_factor"),
        hands_over=True,
    ),
    "adamw_muon": Optimizer(
        title="AdamW, and Muon on the matrices once the learning rate falls",
        source="Xmodel-2.5 (arXiv:2511.19496)",
        family=Family.ADAM,
        check_lr=0.005,  # as adamw, which is all that the check sees of it
        reads=(*ADAM, "momentum", "shape_factor", "damping", "handed_lr_factor"),
        then="muon",
    ),
}


def optimizer_kind(name: str) -> Optimizer:
    """The registered optimizer of that name; `Refused` names the others."""
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name]
