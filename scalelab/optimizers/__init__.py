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
    clip_norm.
    """

    title: str
    source: str
    family: Family
    reads: tuple[str, ...]
    hands_over: bool = False
    eps: bool = True
    then: str | None = None

    def family_of(self, role: Role) -> Family:
        """The family whose rules a tensor of that role follows."""
        return Family.ADAM if self.hands_over and role not in MATRICES else self.family


ADAM = ("beta1", "beta2", "eps")

OPTIMIZERS: dict[str, Optimizer] = {
    "adamw": Optimizer(title="AdamW", source="arXiv:1711.05101; torch.optim.AdamW", family=Family.ADAM, reads=ADAM),
    "sgd": Optimizer(
        title="SGD with momentum", source="torch.optim.SGD", family=Family.SGD, reads=("momentum",), eps=False
    ),
    "adam_atan2": Optimizer(
        title="Adam with atan2 in place of the quotient: no eps",
        source="arXiv:2407.05872",
        family=Family.ADAM,
        reads=("beta1", "beta2"),
        eps=False,
    ),
    "lion": Optimizer(title="Lion", source="arXiv:2302.06675", family=Family.ADAM, reads=("beta1", "beta2"), eps=False),
    "adafactor": Optimizer(
        title="Adafactor with steps relative to the parameter",
        source="arXiv:1804.04235",
        family=Family.ADAFACTOR,
        reads=(),
        eps=False,
    ),
    "muon": Optimizer(
        title="Muon; embedding, readout and vectors by AdamW",
        source="KellerJordan/Muon; Moonlight (arXiv:2502.16982)",
        family=Family.MUON,
        reads=(*ADAM, "momentum", "shape_factor", "damping", "handed_lr_factor"),
        hands_over=True,
    ),
    "shampoo": Optimizer(
        title="Shampoo, L^-¼ G R^-¼; embedding, readout and vectors by AdamW",
        source="arXiv:1802.09568",
        family=Family.SHAMPOO,
        reads=(*ADAM, "damping", "handed_lr_factor"),
        hands_over=True,
    ),
    "shampoo_half": Optimizer(
        title="Shampoo, L^-½ G R^-½; embedding, readout and vectors by AdamW",
        source="arXiv:2309.06497; arXiv:2406.17748",
        family=Family.SHAMPOO_HALF,
        reads=(*ADAM, "damping", "handed_lr_factor"),
        hands_over=True,
    ),
    "soap": Optimizer(
        title="SOAP; embedding, readout and vectors by AdamW",
        source="arXiv:2409.11321",
        family=Family.SOAP,
        reads=(*ADAM, "damping", "handed_lr_factor"),
        hands_over=True,
    ),
    "adamw_muon": Optimizer(
        title="AdamW, and Muon on the matrices once the learning rate falls",
        source="Xmodel-2.5 (arXiv:2511.19496)",
        family=Family.ADAM,
        reads=(*ADAM, "momentum", "shape_factor", "damping", "handed_lr_factor"),
        then="muon",
    ),
}


def optimizer_kind(name: str) -> Optimizer:
    """The registered optimizer of that name; `Refused` names the others."""
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name]
