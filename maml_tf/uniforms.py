"""Uniform random numbers from a counter-based generator."""

import numpy as np

_DRAWS_PER_BLOCK = 4  # uint64 draws for each step of Philox's counter


def uniforms(
    seed: int, stream: int, first: int, count: int, width: int
) -> np.ndarray:
    """Rows of uniform random numbers, each computed from its index.

    Row i depends only on (seed, stream, i) and on `width` rounded up to a
    multiple of 4: Philox is a counter-based generator, and each row owns a
    stretch of its counter.

    Args:
        seed: 0 <= seed < 2**64.
        stream: 0 <= stream < 2**64; streams are independent of each other.
        first: index of the first row.
        count: number of rows.
        width: numbers in a row.

    Returns:
        float64 [count, width] in [0, 1).
    """
    blocks = -(-width // _DRAWS_PER_BLOCK)
    generator = np.random.Generator(
        np.random.Philox(key=int(seed) + (stream << 64), counter=first * blocks)
    )
    rows = generator.random((count, blocks * _DRAWS_PER_BLOCK))
    return rows[:, :width]
