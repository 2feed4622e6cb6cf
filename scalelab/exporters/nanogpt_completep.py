"""nanoGPT-completep: a config of the branch `completep` of EleutherAI/nanoGPT-mup, CompleteP's reference code.

The branch derives every tensor's learning rate, weight decay and eps from a few keys. Here the keys are solved for from
the values of the recipe, and what the branch computes from them is held against those, tensor by tensor: a difference
is refused. Its train.py runs the config among its own globals, so the config also brings what no key says: the start of
each tensor, and the norm.
"""

import math
import textwrap
from collections.abc import Mapping

from scalelab.errors import Refused, unknown
from scalelab.exporters.exporter import Export, Exporter, check_kinds
from scalelab.exporters.handed import Handoff
from scalelab.exporters.nanogpt_rules import COMMIT, Keys, differences, equal, solved
from scalelab.exporters.texts import count
from scalelab.models.tensors import NORM_EPS
from scalelab.parametrizations.table import Role

FILE = "nanogpt_completep.py"
NORMS = ("rms", "layer")
EPS = ("exact", "blocks")

IN_BLOCK = {
    "attention.norm": "ln_1", "attention.query": "attn.c_attn", "attention.key": "attn.c_attn",
    "attention.value": "attn.c_attn", "attention.output": "attn.c_proj", "mlp.norm": "ln_2", "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
}  # fmt: skip
OUTSIDE = {"embedding": "transformer.wte", "positions": "transformer.wpe", "norm": "transformer.ln_f"}

START = """

# train.py hands no init_std to the model, and one for all matrices of the blocks is not what the proxies had.
STARTS = {starts}


class GPT(GPT):
    def __init__(self, config):
        if config.vocab_size != {vocab}:
            raise SystemExit(f"vocab_size of data/{{dataset}}/meta.pkl is {{config.vocab_size}}: it must be {vocab}")
        super().__init__(config)
        for name, parameter in self.named_parameters():
            for ending, std in STARTS.items():
                if name.endswith(ending):
                    torch.nn.init.normal_(parameter, std=std)
"""

RMS = """

# RMSNorm, as the proxies had, in place of the branch's LayerNorm.
import model as gpt_module


class RMSNorm(torch.nn.Module):
    def __init__(self, ndim, bias):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(ndim))

    def forward(self, x):
        return torch.nn.functional.rms_norm(x, self.weight.shape, self.weight, {eps!r})


gpt_module.LayerNorm = RMSNorm
"""


def write(run: Handoff, options: Mapping[str, str]) -> Export:
    """The recipe as a config file of the branch.

    Raises:
        Refused: what its network has not (a gated MLP, rotary positions, an untied readout, biases without those of
            norms), a schedule other than cosine or constant, and every value that it would compute otherwise.
    """
    for option, accepted in (("norm", NORMS), ("eps", EPS)):
        if options[option] not in accepted:
            raise unknown(f"option {option} of nanogpt_completep", options[option], accepted)
    check_kinds(run, "nanogpt_completep", models=("transformer",), optimizers=("adamw",))
    _check(run)
    keys = solved(run)
    tolerated = list(differences(run, keys, eps_alike=options["eps"] == "blocks"))
    notes = _notes(run, keys, options, tolerated)
    lines = [f"{name} = {value!r}" for name, value in _config(run, keys, options).items()]
    head = "\n".join(textwrap.fill(line, 112) for line in (run.provenance, "", *(f"Note: {note}." for note in notes)))
    text = f'"""For nanoGPT-mup, branch completep ({COMMIT}): python train.py {FILE}\n\n{head}\n"""\n\nimport torch\n\n'
    text += "\n".join(lines) + "\n"
    text += RMS.format(eps=NORM_EPS) if options["norm"] == "rms" else ""
    text += START.format(starts=_starts(run), vocab=run.spec.shape.vocab)
    return Export(files={FILE: text}, notes=notes)


def _check(run: Handoff) -> None:
    spec, shape = run.spec, run.spec.shape
    given = {**vars(spec.architecture), "ffn": shape.ffn, "kv_heads": shape.kv_heads}
    given |= {"schedule": run.horizon.schedule, "z_loss": spec.hparams.z_loss}
    accepted: dict[str, tuple[object, ...]] = {
        "tied_head": (True,), "mlp": ("gelu",), "positions": ("learned",), "biases": (False,),
        "norm_gains": ("vector",), "qk_norm": (False,), "zero_init_query": (False,), "ffn": (4 * shape.width,),
        "kv_heads": (shape.heads,), "schedule": ("cosine", "constant"), "z_loss": (0,),
    }  # fmt: skip
    for field, values in accepted.items():
        if given[field] not in values:
            raise Refused(
                f"{field}={given[field]} cannot be said in nanoGPT-mup ({COMMIT}), which is GPT-2 with tied tables,"
                f" learned positions and GELU: accepted is {' or '.join(map(str, values))}"
            )
    scales = (1 / shape.head_dim, 1 / math.sqrt(shape.head_dim))
    if not any(equal(run.attention, scale) for scale in scales):
        raise Refused(
            f"softmax scale {run.attention:g} cannot be said in nanoGPT-mup ({COMMIT}): accepted is 1/head_dim or"
            f" 1/√head_dim, {scales[0]:g} or {scales[1]:g}; hold head_dim along the sweep, with multipliers.attention=1"
        )


def _config(run: Handoff, keys: Keys, options: Mapping[str, str]) -> dict[str, object]:
    spec, shape, horizon = run.spec, run.spec.shape, run.horizon
    micro = count(options, "batch_size", spec.sequences)
    lowest = 1.0 if horizon.schedule == "constant" else horizon.final_lr_ratio
    return {
        "n_layer": shape.depth, "n_head": shape.heads, "n_embd": shape.width, "block_size": shape.context,
        "bias": False, "dropout": 0.0,
        "batch_size": micro, "gradient_accumulation_steps": spec.sequences // micro,
        **vars(keys),
        "beta1": run.beta1, "beta2": run.beta2, "grad_clip": run.clip_norm or 0.0,
        "decay_lr": True, "min_lr": keys.learning_rate * lowest, "warmup_iters": horizon.warmup_steps,
        "lr_decay_iters": horizon.steps, "max_iters": horizon.steps - 1,
        "mup_enabled": True, "mup_input_alpha": run.embedding,
        "mup_output_alpha": run.by_name["embedding.weight"].multiplier * keys.mup_width_multiplier,
        "mup_disable_attention_scaling": not equal(run.attention, 1 / shape.head_dim),
        "dtype": spec.dtype, "seed": spec.seed,
    }  # fmt: skip


def _notes(run: Handoff, keys: Keys, options: Mapping[str, str], tolerated: list[str]) -> tuple[str, ...]:
    found = [f"the vocabulary is data/DATASET/meta.pkl's and must be {run.spec.shape.vocab}"]
    if run.horizon.warmup_steps:
        found.append("its warmup starts at a learning rate of 0, one step later than the proxies'; then they are equal")
    if options["norm"] == "layer":
        found.append("norm=layer leaves LayerNorm (mean taken off, eps 1e-5) where the proxies had RMSNorm (eps 1e-6):"
                     " this trains another network, for which the recipe was not measured")  # fmt: skip
    if tolerated:
        found.append(f"eps=blocks gives all tensors eps {keys.eps:g}, which is not the recipe's for"
                     f" {', '.join(tolerated)}")  # fmt: skip
    return tuple(found)


def _starts(run: Handoff) -> dict[str, float]:
    """Standard deviation by the end of the branch's names; gains start at 1 there too."""
    found: dict[str, float] = {}
    for each in run.tensors:
        if each.role is not Role.GAIN:
            ending = branch_name(each.name).removeprefix("transformer.").split(".", 2 * each.tensor.in_block)[-1]
            if found.setdefault(ending, each.init_std) != each.init_std:
                raise RuntimeError(f"{each.name} starts otherwise than the others that end in {ending}")
    return found


def branch_name(name: str) -> str:
    """The branch's name of a parameter of scalelab's transformer; query, key and value are thirds of one.

    >>> branch_name("blocks.3.attention.key.weight"), branch_name("norm.gain")
    ('transformer.h.3.attn.c_attn.weight', 'transformer.ln_f.weight')
    """
    module = name.rpartition(".")[0]
    if module in OUTSIDE:
        return f"{OUTSIDE[module]}.weight"
    _, index, rest = module.split(".", 2)
    return f"transformer.h.{index}.{IN_BLOCK[rest]}.weight"


EXPORTER = Exporter(
    title="nanoGPT-completep: a config of CompleteP's reference code, for GPT-2-like networks with tied tables",
    checked=f"EleutherAI/nanoGPT-mup {COMMIT}: groups and starts read back, 20 steps in float64 equal to scalelab's",
    write=write,
    options={
        "batch_size": ("1", "sequences a forward pass; divides those of a step"),
        "norm": ("rms", "rms puts RMSNorm, as the proxies had, in place of its LayerNorm; layer leaves LayerNorm"),
        "eps": ("exact", "exact refuses where its one eps is not every tensor's; blocks gives all that of the blocks"),
    },
    expresses="width, depth and residual factors of learning rates and weight decay, input and output multipliers, by"
    " the branch's own keys; starts and RMSNorm by what the config brings",
    folds="nothing",
    refuses="all that its rules would compute otherwise (eps of the tables and the last norm where depth is scaled),"
    " SwiGLU, rotary positions, an untied readout, biases, linear and wsd schedules",
)
