"""What a unit-scaled network is made of, and what it has no counterpart of: known without building it."""

from collections.abc import Mapping

from scalelab.errors import Refused
from scalelab.shape import Architecture

UNIT_SCALED = ("transformer",)  # the models that have a unit-scaled network

# The only values accepted, and the key of conf/train.yaml where its name is another.
ARCHITECTURE = {
    "norm_gains": "none", "biases": False, "tied_head": False, "positions": "rotary", "attention_scale": "table",
    "readout_init": "table", "residual_init": "plain", "qk_norm": False,
}  # fmt: skip
HPARAMS = {"init_gain": 1.0, "embedding_std": 1.0, "embedding_multiplier": 1.0, "z_loss": 0.0}
KEYS = {
    "init_gain": "init.gain", "embedding_std": "init.embedding_std", "embedding_multiplier": "multipliers.embedding"
}  # fmt: skip


def check(model: str, architecture: Architecture, hparams: Mapping[str, object]) -> None:
    """Refuse what u-muP's network does not have: a model, a part, or a hyperparameter that it makes superfluous."""
    if model not in UNIT_SCALED:
        raise Refused(f"model={model} has no unit-scaled network: accepted is {', '.join(UNIT_SCALED)}")
    for name, accepted in ARCHITECTURE.items():
        if getattr(architecture, name) != accepted:
            given = str(getattr(architecture, name)).lower()
            raise Refused(f"model.{name}={given} in a unit-scaled network: accepted is {str(accepted).lower()}")
    tuned = hparams["activation_multiplier"] != 1.0
    if architecture.mlp == "squared_relu" or (architecture.mlp == "relu" and tuned):
        # relu(αx) is αrelu(x), whose scale would be taken out again.
        without = "" if architecture.mlp == "squared_relu" else " with multipliers.activation"
        raise Refused(f"model.mlp={architecture.mlp}{without} in a unit-scaled network: accepted are swiglu, gelu")
    for name, only in HPARAMS.items():
        if hparams[name] != only:
            key = KEYS.get(name, name)
            raise Refused(f"{key}={hparams[name]} in a unit-scaled network, which has none: leave it at {only:g}")
