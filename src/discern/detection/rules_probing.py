"""When questions are so alike that somebody may be feeling a detector's way. Pure.

An attack that sees answers alone asks about one input again and again, changed a little each time. Honest questions
differ, single customers and cameras aside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Of 64 bits. Pictures that have nothing in common differ in about 32 of them.
_DIFFERING_BITS = 6
# Relative, in every field.
_DIFFERENCE = 0.1


def most_alike_pictures(sketches: NDArray[np.uint64]) -> int:
    """Return the largest number of near duplicates that any picture has; `sketches` is uint64 [n]."""
    differing = np.bitwise_count(sketches[:, np.newaxis] ^ sketches[np.newaxis, :])
    return _most(differing <= _DIFFERING_BITS)


def most_alike_records(values: NDArray[np.float32]) -> int:
    """Return the largest number of near duplicates that any record has, the same one again left out.

    `values` is float32 [n, fields]; what is missing in both is alike.
    """
    first, second = np.nan_to_num(values)[:, np.newaxis, :], np.nan_to_num(values)[np.newaxis, :, :]
    apart = np.abs(first - second)
    alike = (apart <= _DIFFERENCE * np.maximum(np.abs(first), np.abs(second))).all(axis=2)
    return _most(alike & apart.any(axis=2))


def _most(alike: NDArray[np.bool_]) -> int:
    np.fill_diagonal(alike, val=False)
    return int(alike.sum(axis=1).max(initial=0))
