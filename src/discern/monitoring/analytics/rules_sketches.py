"""What many hours have together that cannot be added up: how long verdicts took, and who asked. Pure.

- Histograms and sets of callers of hours, put together in any order, are those of all hours at once.
- A quantile is within 2.5 % of a value that has that rank; the number of callers is exact up to 1,024 of them.

The histogram is DDSketch with cells that grow by a factor (C. Masson, J. E. Rim, H. K. Lee: DDSketch, VLDB 2019); the
callers beyond 1,024 are counted from the least of their hashes (Z. Bar-Yossef et al.: Counting distinct elements in a
data stream, RANDOM 2002), with a standard error of 3 %.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from hashlib import blake2b

import msgspec

ACCURACY = 0.025
_GROWTH = (1 + ACCURACY) / (1 - ACCURACY)
_LOG = math.log(_GROWTH)
_LEAST_MILLISECONDS = 0.001
MOST_CALLERS = 1024
_HASHES = 2**64
_encode = msgspec.json.Encoder().encode
_cells = msgspec.json.Decoder(dict[int, float]).decode


def cell_of(milliseconds: float) -> int:
    """Return the cell of a histogram that a time lies in."""
    return math.ceil(math.log(max(milliseconds, _LEAST_MILLISECONDS)) / _LOG)


def quantile(cells: Mapping[int, float], share: float) -> float | None:
    """Return the time that a share of those in a histogram do not exceed, None for an empty one."""
    total = sum(cells.values())
    if not total:
        return None
    reached = 0.0
    for cell in sorted(cells):
        reached += cells[cell]
        if reached >= share * total * (1 - 1e-12):
            break
    return 2 * _GROWTH**cell / (_GROWTH + 1)


def together(histograms: Iterable[Mapping[int, float]]) -> dict[int, float]:
    """Return the histogram of all."""
    found: dict[int, float] = {}
    for cells in histograms:
        for cell, weight in cells.items():
            found[cell] = found.get(cell, 0.0) + weight
    return found


def histogram_bytes(cells: Mapping[int, float]) -> bytes:
    """Return a histogram as it is stored."""
    return _encode({cell: round(weight, 3) for cell, weight in sorted(cells.items())})


def histogram_of(stored: bytes) -> dict[int, float]:
    """Return a histogram from what is stored."""
    return _cells(stored) if stored else {}


def caller_hash(workspace: str, principal: str) -> int:
    """Return a hash of somebody, spread evenly over 64 bits."""
    return int.from_bytes(blake2b(f"{workspace}\0{principal}".encode(), digest_size=8).digest(), "big")


def least(hashes: Iterable[int]) -> tuple[int, ...]:
    """Return what is kept of callers: the least of their different hashes, in order."""
    return tuple(sorted(set(hashes))[:MOST_CALLERS])


def callers_in(kept: tuple[int, ...]) -> int:
    """Return how many different callers there are, from what is kept of them."""
    if len(kept) < MOST_CALLERS:
        return len(kept)
    return round((MOST_CALLERS - 1) * _HASHES / (kept[-1] + 1))


def callers_bytes(kept: tuple[int, ...]) -> bytes:
    """Return callers as they are stored."""
    return struct.pack(f">{len(kept)}Q", *kept)


def callers_of(stored: bytes) -> tuple[int, ...]:
    """Return callers from what is stored."""
    return struct.unpack(f">{len(stored) // 8}Q", stored)
