"""Oracle: learning rates and weight decay of the unit-scaling package, tensor by tensor, and its published values."""

import pytest
import torch

from scalelab.networks.unit_residual import residual_taus
from scalelab.parametrizations import Role
from scalelab.parametrizations.decay import from_independent
from scalelab.resolve import Setting, settings
from scalelab.shape import Architecture
from tests.conftest import make_spec

ETA, DECAY = 0.5, 2**-13  # the package's weight decay is independent of the learning rate


def resolved(width: int, depth: int, **hparams: float) -> list[Setting]:
    given = {"lr": ETA, "weight_decay": from_independent(DECAY, ETA), **hparams}
    architecture = Architecture(norm_gains="none")
    spec = make_spec("u_mup", width=width, depth=depth, architecture=architecture, hparams=given)
    return list(settings(spec))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(("width", "depth"), [(64, 2), (256, 2), (64, 16), (256, 16)])
def test_learning_rates_and_weight_decay_equal_the_package(width: int, depth: int) -> None:
    uu = pytest.importorskip("unit_scaling", reason="pip install --no-deps unit-scaling==0.3.5 einops")
    for setting in resolved(width, depth):
        role, in_block = setting.tensor.role, setting.tensor.in_block
        parameter = uu.Parameter(
            torch.empty(setting.tensor.stored),
            mup_type="output" if role is Role.READOUT else "weight",
            mup_scaling_depth=depth if in_block else None,
        )
        (theirs,) = uu.optim.scaled_parameters(
            [parameter], uu.optim.lr_scale_func_adam, lr=ETA, weight_decay=DECAY, independent_weight_decay=True
        )
        assert setting.lr == pytest.approx(theirs["lr"], rel=1e-12), setting.tensor.name
        assert setting.weight_decay == pytest.approx(theirs["weight_decay"], rel=1e-12), setting.tensor.name


@pytest.mark.parametrize(
    ("width", "depth", "published"),
    [
        (64, 2, (0.125, 0.0883883, 0.0441942, 1)),
        (256, 2, (0.0625, 0.0441942, 0.0220971, 1)),
        (64, 16, (0.125, 0.03125, 0.015625, 1)),
        (256, 16, (0.0625, 0.015625, 0.0078125, 1)),
    ],
)
def test_learning_rates_of_the_table(width: int, depth: int, published: tuple[float, ...]) -> None:
    """u-muP (arXiv:2407.17465) Table 2 at η = 1: embedding, query/key/value, down (fan-in 4 × width), readout."""
    names = ("embedding", "blocks.0.attention.query", "blocks.0.mlp.down", "readout")
    at = {setting.tensor.name.removesuffix(".weight"): setting.lr for setting in resolved(width, depth, lr=1.0)}
    assert [at[name] for name in names] == pytest.approx(published, rel=1e-5)


def test_taus_make_every_layer_weigh_the_same() -> None:
    """unit-scaling 0.3.5 core/functional.py, 2 layers: α_res = ρ = 1; α_res = 2; ρ = 2."""
    assert residual_taus(4) == pytest.approx([0.7071068, 0.5773503, 0.5, 0.4472136], rel=1e-6)
    assert residual_taus(4, 2.0) == pytest.approx([1.414214, 0.816497, 0.632456, 0.534522], rel=1e-6)
    assert residual_taus(4, 1.0, 2.0) == pytest.approx([0.894427, 0.333333, 0.632456, 0.267261], rel=1e-5)
