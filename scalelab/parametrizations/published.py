"""What published texts and codes say of muP in width, as data to compare: they differ in eps, weight decay, a router.

None but `megatron` is trained here as it stands: `mup` and `mup_package` are. Each is muP's table with the columns
replaced that its source states; where a source is silent, the table is muP's, and the notes say so.
"""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from scalelab.parametrizations.mup import MUP, MUP_PACKAGE, MUP_TABLE_3
from scalelab.parametrizations.table import Family, Parametrization, Role, Rule
from scalelab.scale import ONE, Power

WIDTH = Power(fan_in=-1)
MATRICES = (Role.HIDDEN, Role.EXPERT)
BLOCKS = (*MATRICES, Role.GAIN, Role.BIAS, Role.SCALAR)
Edit = Callable[[Role, Rule], Rule]


def _published(
    form: Parametrization, name: str, title: str, source: str, edit: Edit, notes: tuple[str, ...] = (),
    without: tuple[Role, ...] = (Role.ROUTER, Role.EXPERT),
) -> Parametrization:  # fmt: skip
    rules: dict[tuple[Role, Family], Rule] = {
        (role, family): edit(role, rule)
        for (role, family), rule in form.rules.items()
        if family is Family.ADAM and role not in without
    }
    return replace(form, name=name, title=title, source=source, rules=rules, notes=notes)


def _eps_in(roles: tuple[Role, ...], *, weight_decay: Power | None = None) -> Edit:
    """An eps that only some roles scale, as the form has it; a weight decay in place of the form's."""

    def edit(role: Role, rule: Rule) -> Rule:
        return replace(rule, eps=rule.eps if role in roles else ONE, weight_decay=weight_decay or rule.weight_decay)

    return edit


def _tp_v(role: Role, rule: Rule) -> Rule:
    return replace(rule, weight_decay=ONE)


def _lingle(role: Role, rule: Rule) -> Rule:
    eps = WIDTH if role in (Role.HIDDEN, Role.READOUT) else ONE
    return replace(rule, eps=eps, weight_decay=rule.lr**-1)


def _megatron(role: Role, rule: Rule) -> Rule:
    if role is Role.ROUTER:  # a two-dimensional parameter that is no embedding, so a hidden one
        return Rule(multiplier=ONE, init=Power(fan_in=-Fraction(1, 2)), lr=WIDTH, weight_decay=ONE, eps=WIDTH)
    return replace(rule, weight_decay=ONE, eps=WIDTH if role in MATRICES else ONE)


MEGATRON = _published(
    MUP,
    "megatron",
    "muP as Megatron-LM's --use-mup has it",
    "NVIDIA/Megatron-LM d98e8a64 megatron/core/optimizer/__init__.py:236-296; the form is TP-V (arXiv:2203.03466)"
    " Table 8",
    _megatron,
    (
        "For runs that are to end in Megatron-LM: eps falls for hidden matrices only, weight decay is constant, the"
        " router is a hidden matrix. Megatron takes one width ratio for all tensors, here each takes its own fan-in.",
        "Megatron keeps GPT-2's 1/√(2·depth) on output projections: model.residual_init=depth-scaled.",
    ),
    without=(),
)

PUBLISHED: dict[str, Parametrization] = {
    "tp_v": _published(
        MUP,
        "tp_v",
        "Tensor Programs V, its text",
        "arXiv:2203.03466 App. B.3",
        _tp_v,
        ("eps 'like 1/fan_in' for all parameters, weight decay 'independently of width'; in Table 8's form.",),
    ),
    "mup_package": MUP_PACKAGE,
    "megatron": MEGATRON,
    "lingle": _published(
        MUP_TABLE_3,
        "lingle",
        "A large-scale exploration of µ-transfer, its code",
        "lucaslingle/mu_transformer 8c38b29 launch.py:237-247 (use_eps_scaling), 279-281 (weight decay);"
        " arXiv:2404.05728",
        _lingle,
        ("Table 3 form; it has no biases and no gains. Weight decay comes after the learning rate: lr·λ is constant.",),
        without=(Role.ROUTER, Role.EXPERT, Role.GAIN, Role.BIAS, Role.SCALAR),
    ),
    "completep_mup": _published(
        MUP,
        "completep_mup",
        "CompleteP's µP column",
        "arXiv:2505.01618 Table 1",
        _eps_in(BLOCKS),
        ("eps is stated for the residual blocks; elsewhere it is left as it is.",),
    ),
    "completed_p_mup": _published(
        MUP_TABLE_3,
        "completed_p_mup",
        "Complete(d)P's µP column",
        "arXiv:2512.22382 Table 1",
        lambda role, rule: rule,
        ("Table 3 form: its eps is 1/m but for the output, whose gradient does not shrink there.",),
    ),
    "nanogpt_mup": _published(
        MUP,
        "nanogpt_mup",
        "nanoGPT-mup, its muP without the depth rule",
        "EleutherAI/nanoGPT-mup 6f8bc3b (branch completep) model.py:364-392, against CompleteP (arXiv:2505.01618)"
        " Table 1",
        _eps_in((), weight_decay=ONE),
        ("With depth_alpha_enabled=False its optimizer leaves weight decay and eps unscaled.",),
    ),
}
