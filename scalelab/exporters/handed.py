"""What is handed over, in no framework's words yet: every tensor's values, and the constants that belong to none."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from scalelab import __version__
from scalelab.errors import Refused
from scalelab.exporters.edited import refuse_edited
from scalelab.exporters.texts import harmless
from scalelab.hparams import Horizon
from scalelab.models import Tensor
from scalelab.parametrizations import table
from scalelab.parametrizations.table import UNDECAYED, Family, Role
from scalelab.recipe import Recipe
from scalelab.resolve import betas, multipliers, settings
from scalelab.spec import RunSpec, as_plain, from_plain


@dataclass(frozen=True, kw_only=True)
class Handed:
    """The values of one tensor at the target.

    It starts as a normal of standard deviation `init_std` about `init_mean`; the forward pass uses `multiplier` times
    it. `lr` is the peak; `weight_decay` torch's λ (a step decays by lr·λ); `eps` None where its optimizer has none.
    """

    tensor: Tensor
    family: Family
    init_mean: float
    init_std: float
    multiplier: float
    lr: float
    weight_decay: float
    eps: float | None

    @property
    def name(self) -> str:
        return self.tensor.name

    @property
    def role(self) -> Role:
        return self.tensor.role


@dataclass(frozen=True, kw_only=True)
class Handoff:
    """A recipe as an exporter takes it; every text of it is one line, and may stand in a comment or a string.

    `attention` is the softmax scale, `residual` the factor on every branch, `embedding` that on what is looked up in
    the token table (not on positions). `folded` says what of these and of the tensors' own multipliers has gone into
    the weights.
    """

    recipe: Recipe
    spec: RunSpec
    tensors: tuple[Handed, ...]
    attention: float
    residual: float
    embedding: float
    beta1: float
    beta2: float
    folded: tuple[str, ...] = ()

    @property
    def horizon(self) -> Horizon:
        return self.spec.horizon

    @property
    def clip_norm(self) -> float | None:
        return self.spec.hparams.clip_norm

    @property
    def digest(self) -> str:
        """Twelve hex digits over the recipe: which one a file was made of."""
        text = json.dumps(as_plain(self.recipe), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def provenance(self) -> str:
        """A line for the head of a file: what wrote it, of which recipe, for which run."""
        shape, horizon = self.spec.shape, self.spec.horizon
        return (
            f"scalelab {__version__}, recipe {self.digest}: {self.spec.parametrization}, {self.spec.optimizer},"
            f" width {shape.width}, depth {shape.depth}, {horizon.tokens:,} tokens in {horizon.steps:,} steps of"
            f" {horizon.batch_tokens:,}"
        )

    @property
    def by_name(self) -> Mapping[str, Handed]:
        return {each.name: each for each in self.tensors}


def handoff(given: Recipe) -> Handoff:
    """A recipe with every tensor of its target resolved.

    Raises:
        Refused: where the recipe is for a unit-scaled network, whose operations no framework has; where it was edited,
            and says other values than its spec.
    """
    refuse_edited(given)
    recipe = harmless(given)
    spec = from_plain(recipe.spec)
    if table(spec.parametrization).unit_scaled:
        raise Refused(
            f"a recipe of {spec.parametrization!r} is for a network of unit-scaled operations, whose gradients have"
            " factors of their own: no framework here has them; sweep under mup, or train with unit_scaling"
        )
    sites, (beta1, beta2) = multipliers(spec), betas(spec)
    return Handoff(
        recipe=recipe,
        spec=spec,
        tensors=tuple(
            Handed(
                tensor=each.tensor, family=each.family, init_std=each.init_std,
                init_mean=1.0 if each.tensor.role in UNDECAYED and each.tensor.role is not Role.BIAS else 0.0,
                multiplier=each.multiplier, lr=each.lr, weight_decay=each.weight_decay, eps=each.eps,
            )
            for each in settings(spec)
        ),
        attention=sites.attention,
        residual=sites.residual,
        embedding=spec.hparams.embedding_multiplier,
        beta1=beta1,
        beta2=beta2,
    )  # fmt: skip
