"""Parameter and FLOP counts, each with its convention named, from what a model says its parameters are.

The literature's laws differ because "N" and "C" do (with or without embeddings, 6N or with attention; see Porian et
al., arXiv:2406.19146). So a count never goes by a bare name here: ask for the one you mean.
"""

import functools
from dataclasses import dataclass

from scalelab.models.registry import MODELS, Modelled, tensors
from scalelab.parametrizations.table import Role
from scalelab.shape import Architecture, Shape


@dataclass(frozen=True, kw_only=True)
class ParamCount:
    """Parameters by convention.

    `embedding` and `readout` are the tables to and from the vocabulary (readout is 0 when tied); `matrices` are the
    weights of the blocks; `vectors` gains and biases, wherever they sit. `non_embedding` leaves out both tables (Kaplan
    et al., arXiv:2001.08361 §2.1); `total` counts every stored number (Hoffmann et al., arXiv:2203.15556); `active`
    is `non_embedding` with only those experts that a token meets.
    """

    embedding: int
    readout: int
    matrices: int
    vectors: int
    idle: int = 0

    @property
    def non_embedding(self) -> int:
        return self.matrices + self.vectors

    @property
    def active(self) -> int:
        return self.non_embedding - self.idle

    @property
    def total(self) -> int:
        return self.embedding + self.readout + self.matrices + self.vectors


@dataclass(frozen=True, kw_only=True)
class FlopCount:
    """Training FLOPs a token (forward and backward, a multiply-add is 2), by convention.

    `six_n_non_embedding`: 6 × active non-embedding parameters (Kaplan). `six_n`: 6 × what a token is multiplied with,
    each matrix as often as it is used. `six_n_attention`: that plus attention's scores and values, which for a causal
    decoder are 6·depth·context·width, half of the full square; this is what scalelab calls a run's cost. Gains and
    biases count as parameters do, 6 each; the products alone, exact and by module, are `flops.module_flops`.
    """

    six_n_non_embedding: int
    six_n: int
    six_n_attention: int


def count_params(run: Modelled) -> ParamCount:
    """Stored parameters of a run's model."""
    return params_of(run.model, run.shape, run.architecture)


def count_flops_per_token(run: Modelled) -> FlopCount:
    """Training FLOPs for one token of a sequence of `shape.context` tokens."""
    return flops_of(run.model, run.shape, run.architecture)


KIND = {
    Role.EMBEDDING: "embedding",
    Role.TIED: "embedding",
    Role.READOUT: "readout",
    Role.HIDDEN: "matrices",
    Role.ROUTER: "matrices",
    Role.EXPERT: "matrices",
    Role.GAIN: "vectors",
    Role.BIAS: "vectors",
    Role.SCALAR: "vectors",
}


@functools.lru_cache(maxsize=4096)  # a plan asks for the same few shapes once a run
def params_of(model: str, shape: Shape, architecture: Architecture) -> ParamCount:
    """Stored parameters of a model of that shape, which need not be a run's."""
    counted = {"embedding": 0, "readout": 0, "matrices": 0, "vectors": 0, "idle": 0}
    for tensor in tensors(model, shape, shape, architecture):
        counted[KIND[tensor.role]] += tensor.numel
        if tensor.role is Role.EXPERT:
            counted["idle"] += tensor.numel - int(tensor.numel * tensor.uses)
    return ParamCount(**counted)


@functools.lru_cache(maxsize=4096)
def flops_of(model: str, shape: Shape, architecture: Architecture) -> FlopCount:
    """Training FLOPs for one token of a model of that shape, which need not be a run's."""
    params = params_of(model, shape, architecture)
    six_n = round(sum(6 * tensor.numel * tensor.uses for tensor in tensors(model, shape, shape, architecture)))
    attention = round(12 * shape.depth * shape.context * shape.width * MODELS[model].pairs)
    return FlopCount(six_n_non_embedding=6 * params.active, six_n=six_n, six_n_attention=six_n + attention)
