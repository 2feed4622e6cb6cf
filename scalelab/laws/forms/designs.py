"""How somebody would plan runs, for tests by simulation: inputs drawn log-uniformly, and what follows from them."""

from collections.abc import Callable

import numpy as np

from scalelab.laws.law import Array

Design = Callable[[np.random.Generator, int], dict[str, Array]]

PARAMS = (1e7, 1e10)
TOKENS = (1e9, 1e12)
BATCH_TOKENS = (2.0**17, 2.0**23)
COST_FLOPS = (1e17, 1e22)
LR = (1e-4, 1e-2)


def log_uniform(**ranges: tuple[float, float]) -> Design:
    """Independent draws: input → (low, high)."""

    def drawn(rng: np.random.Generator, n: int) -> dict[str, Array]:
        return {name: np.exp(rng.uniform(np.log(low), np.log(high), size=n)) for name, (low, high) in ranges.items()}

    return drawn


def repeated(rng: np.random.Generator, n: int) -> dict[str, Array]:
    """Parameters, and unique tokens seen 1 to 100 times."""
    drawn = log_uniform(params=PARAMS, unique_tokens=(1e8, 1e11), epochs=(1.0, 100.0))(rng, n)
    return {
        "params": drawn["params"],
        "tokens": drawn["unique_tokens"] * np.floor(drawn["epochs"]),
        "unique_tokens": drawn["unique_tokens"],
    }
