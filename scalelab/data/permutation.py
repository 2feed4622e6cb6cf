"""A seeded permutation of 0..size-1 that is computed entry by entry, in constant memory.

`permute` scrambles numbers of `bits` bits, where 2**bits is the smallest power of two that holds `size` entries. Every
step of the scramble can be undone modulo 2**bits (adding a key, multiplying by an odd key, x ^= x >> s), so the whole
is a bijection of 0..2**bits-1. Entries that land at `size` or above are scrambled again until they land below it
("cycle walking", Black & Rogaway 2002, "Ciphers with arbitrary finite domains"): following the cycle of a bijection
from inside a subset to its next visit of that subset is a bijection of the subset. As 2**bits < 2*size, that takes less
than two scrambles an entry on average.

This is for shuffling data, not for cryptography.
"""

import numpy as np

_ROUNDS = 6  # measured at 2**20 entries: from 4 rounds on, differences of neighbours' images are uniform; two to spare
_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 / golden ratio, made odd: the increment of splitmix64


def permute(index: np.ndarray, *, size: int, seed: int, stream: np.ndarray | int = 0) -> np.ndarray:
    """The images of `index` under the permutation of 0..size-1 that belongs to (seed, stream).

    `index`: unsigned integers below `size`, any shape; `stream`: one integer, or one for each entry (an epoch number).
    Returns uint64 of the shape of `index`.

    >>> sorted(permute(np.arange(5, dtype=np.uint64), size=5, seed=1).tolist())
    [0, 1, 2, 3, 4]
    """
    bits = (size - 1).bit_length()
    image = np.array(index, dtype=np.uint64).reshape(-1)
    # One key an entry. The seed is mixed before the stream is added: (seed 1, epoch 2) and (seed 2, epoch 1) differ.
    start = _mix(np.array([seed % 2**64], dtype=np.uint64))
    key = _mix(start + np.broadcast_to(np.asarray(stream, dtype=np.uint64), np.shape(index)).reshape(-1))
    walking = np.arange(image.size)
    while walking.size:
        image[walking] = _scramble(image[walking], key[walking], bits)
        walking = walking[image[walking] >= size]
    return image.reshape(np.shape(index))


def _scramble(x: np.ndarray, key: np.ndarray, bits: int) -> np.ndarray:
    """A bijection of 0..2**bits-1 for each key; arithmetic on uint64 arrays wraps, which the mask makes harmless."""
    mask = np.uint64(2**bits - 1)
    shift = np.uint64((bits + 1) // 2)
    for _ in range(_ROUNDS):
        key = key + np.uint64(_GOLDEN)
        odd = _mix(key) | np.uint64(1)
        x = ((x + (key >> np.uint64(32))) * odd) & mask
        x = x ^ (x >> shift)
    return x


def _mix(x: np.ndarray) -> np.ndarray:
    """The output function of splitmix64 (Steele, Lea & Flood 2014, Figure 16): a bijection of 64-bit integers."""
    x = x + np.uint64(_GOLDEN)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))
