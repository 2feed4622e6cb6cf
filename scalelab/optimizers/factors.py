"""What a matrix optimizer takes for the matrix of a tensor, and the factors that put that matrix's shape into its rate.

An orthogonalised update has singular values of about 1 whatever the shape. Published Muons multiply the rate of the
update by a factor of the shape; here the factor belongs to the parameter group, so that a table of rules sees it.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod, sqrt

from scalelab.errors import Refused, unknown

SHAPE_FACTORS: Mapping[str, Callable[[int, int], float]] = {
    # The update's spectral norm is the rate.
    "none": lambda fan_out, fan_in: 1.0,
    # KellerJordan/Muon, muon.py; torch.optim.Muon, adjust_lr_fn="original".
    "original": lambda fan_out, fan_in: sqrt(max(1.0, fan_out / fan_in)),
    # The update's RMS-to-RMS operator norm is the rate. Bernstein, "Deriving Muon" (2025); arXiv:2310.17813,
    # Condition 1; microsoft/dion, adjust_lr="spectral_norm".
    "spectral": lambda fan_out, fan_in: sqrt(fan_out / fan_in),
    # The update's RMS is that of AdamW. Moonlight, arXiv:2502.16982, Sec. 2.2; torch's adjust_lr_fn="match_rms_adamw".
    "match_rms": lambda fan_out, fan_in: 0.2 * sqrt(max(fan_out, fan_in)),
}


def shape_factor(name: str, fan_out: int, fan_in: int) -> float:
    """The factor of that name for a matrix [fan_out, fan_in].

    >>> shape_factor("original", 1024, 256), shape_factor("spectral", 256, 1024), shape_factor("match_rms", 256, 1024)
    (2.0, 0.5, 6.4)
    """
    if name not in SHAPE_FACTORS:
        raise unknown("shape factor", name, SHAPE_FACTORS)
    return SHAPE_FACTORS[name](fan_out, fan_in)


def effective(lr: float, weight_decay: float, factor: float) -> tuple[float, float]:
    """The (lr, weight_decay) of a group here that steps as published Muons do with these values and that factor.

    They decay by the unadjusted lr · weight_decay and multiply the rate of the update alone; a group here has one rate
    for both, so the decay gives back what the rate was multiplied by.

    >>> effective(0.02, 0.1, 2.0)
    (0.04, 0.05)
    """
    return lr * factor, weight_decay / factor


def matrix_shape(shape: Sequence[int], *, flatten: bool = False) -> tuple[int, ...]:
    """A tensor's shape as (..., fan_out, fan_in): a matrix [out, in], or a stack of them, whose members are apart.

    Four dimensions and more are a convolution [out, in, *kernel], whose matrix is [out, in · kernel]; so are three with
    `flatten`, which otherwise are a stack.

    >>> matrix_shape((8, 64, 32)), matrix_shape((64, 32, 3, 3)), matrix_shape((64, 32, 4), flatten=True)
    ((8, 64, 32), (64, 288), (64, 128))
    """
    if len(shape) < 2:
        raise Refused(f"a parameter of shape {tuple(shape)} is not a matrix: give vectors and scalars to Adam")
    return (shape[0], prod(shape[1:])) if flatten or len(shape) > 3 else tuple(shape)
