"""Inputs made from a manifest alone.

- The same manifest gives the same samples, to the last bit.
- Rows differ from each other, so that answers that were swapped can be told apart.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from discern.core.verdict import InputFacts
from discern.inputs.spec import BooleanField, CategoryField, ImageSpec, IntegerField, RecordSpec
from discern.inputs.types import Prepared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.core.verdict import InputKind
    from discern.inputs.spec import InputSpec, NumberField
    from discern.inputs.types import Scalar

    Rows = NDArray[np.uint8] | NDArray[np.float32]
    Field = NumberField | IntegerField | BooleanField | CategoryField

SEED = 20_260_401
UNBOUNDED = 1e9
"""The most extreme value tried on a field that declares no minimum or maximum."""

_GRID = 4
_MISSING_SHARE = 0.2


def typical(spec: InputSpec, count: int) -> Rows:
    """Return `count` rows: blocks of colour under noise of different strength, or records from the fields' ranges."""
    rng = np.random.default_rng(SEED)
    if isinstance(spec, ImageSpec):
        return np.stack([_picture(spec, rng) for _ in range(count)])
    rows = np.stack([_drawn(field, rng, count) for field in spec.fields], axis=1)
    for column, field in enumerate(spec.fields):
        if field.missing == "nan":
            rows[rng.random(count) < _MISSING_SHARE, column] = np.nan
    return rows.astype(np.float32)


def extremes(spec: InputSpec) -> dict[str, Rows]:
    """Return rows [1, ...] at the edges of what the manifest lets in, by name."""
    if isinstance(spec, ImageSpec):
        shape = (1, spec.height, spec.width, 3)
        noise = np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8)
        board = np.indices(shape).sum(axis=0) % 2 * 255
        red = np.zeros(shape, dtype=np.uint8)
        red[..., 0] = 255
        return {
            "all 0": np.zeros(shape, dtype=np.uint8),
            "all 255": np.full(shape, 255, dtype=np.uint8),
            "noise": noise,
            "checkerboard": board.astype(np.uint8),
            "pure red": red,
        }
    bounds = [_bounds(field) for field in spec.fields]
    low, high = (np.array([[bound[side] for bound in bounds]], dtype=np.float32) for side in (0, 1))
    nothing = np.array([[_nearest_to_zero(*bound) for bound in bounds]], dtype=np.float32)
    found: dict[str, Rows] = {"all minima": low, "all maxima": high, "all nearest to 0": nothing}
    may_miss = np.array([field.missing == "nan" for field in spec.fields])
    if may_miss.any():
        found["all missing that may be"] = np.where(may_miss, np.float32(np.nan), low)
    return found


def prepared(rows: Rows, seconds: tuple[float, ...] = ()) -> Prepared:
    """Return rows as a prepared input: one row as an image or record, several with their `seconds` as a clip."""
    kind: InputKind = "record" if rows.dtype == np.float32 else "video" if seconds else "image"
    digest = hashlib.sha256(rows.tobytes()).hexdigest()
    return Prepared(rows, InputFacts(kind=kind, sha256=digest, bytes=rows.nbytes), seconds)


def one_by_one(rows: Rows) -> list[Prepared]:
    """Return each row as an input of its own."""
    return [prepared(rows[row : row + 1]) for row in range(len(rows))]


def record(spec: RecordSpec) -> dict[str, Scalar]:
    """Return one record that the spec accepts, every field at its value nearest to 0."""
    found: dict[str, Scalar] = {}
    for field in spec.fields:
        value = _nearest_to_zero(*_bounds(field))
        if isinstance(field, CategoryField):
            found[field.name] = field.categories[int(value)]
        elif isinstance(field, BooleanField):
            found[field.name] = bool(value)
        else:
            found[field.name] = int(value) if isinstance(field, IntegerField) else value
    return found


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return an RGB image, uint8 [height, width, 3], as a PNG file (ISO/IEC 15948, colour type 2, filter 0)."""
    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def _picture(spec: ImageSpec, rng: np.random.Generator) -> NDArray[np.uint8]:
    grid = rng.integers(0, 256, (_GRID, _GRID, 3))
    down = np.linspace(0, _GRID - 1, spec.height).round().astype(int)
    across = np.linspace(0, _GRID - 1, spec.width).round().astype(int)
    strength = rng.uniform(1, 40)
    noise = rng.normal(0, strength, (spec.height, spec.width, 3))
    colours: NDArray[np.float64] = grid[down][:, across] + noise
    return np.clip(colours, 0, 255).astype(np.uint8)


def _drawn(field: Field, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    low, high = _bounds(field)
    centre = _nearest_to_zero(low, high)
    end = np.where(rng.random(count) < (high - centre) / max(high - low, 1e-300), high, low)
    # Half are spread evenly, half lie near 0 on a logarithmic scale, as amounts and counts do.
    close = centre + (end - centre) * 10.0 ** rng.uniform(-6, 0, count)
    drawn = np.where(rng.random(count) < 0.5, rng.uniform(low, high, count), close)
    whole = isinstance(field, IntegerField | BooleanField | CategoryField)
    return np.clip(np.round(drawn), low, high) if whole else drawn


def _bounds(field: Field) -> tuple[float, float]:
    if isinstance(field, BooleanField):
        return 0.0, 1.0
    if isinstance(field, CategoryField):
        return 0.0, float(len(field.categories) - 1)
    low = -UNBOUNDED if field.minimum is None else float(field.minimum)
    high = UNBOUNDED if field.maximum is None else float(field.maximum)
    return min(low, high), max(low, high)


def _nearest_to_zero(low: float, high: float) -> float:
    return min(max(0.0, low), high)
