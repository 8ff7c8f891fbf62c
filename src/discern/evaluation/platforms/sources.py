"""Labelled inputs from a folder with a sub-folder for each class, or from a Parquet file of records.

- The same data, seed and limits give the same rows in the same order, whatever the file system's order.
- A picture is there once: of equal files in one class the first is taken, and equal files in both classes are refused.
- What cannot be read is left out, and said.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from discern.core.errors import CallerError, InvalidRecord, MissingExtra, UnreadableInput
from discern.evaluation.platforms.types import LabelledRows
from discern.inputs.prepare import prepare_media
from discern.inputs.record import prepare_record
from discern.inputs.spec import ImageSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.detectors.manifest import Manifest
    from discern.inputs.faces import FaceLocator
    from discern.inputs.spec import RecordSpec
    from discern.inputs.types import InputLimits

SEED = 0
LABEL = "label"
CALIBRATION_SHARE = 5
CALIBRATION_MOST = 64


class _Taken(NamedTuple):
    """The rows of the negative and of the positive class, the digest of what they came from, and what to say of it."""

    rows: tuple[NDArray[Any], NDArray[Any]]
    sha256: str
    caveats: tuple[str, ...]


def labelled_rows(
    data: Path, manifest: Manifest, limits: InputLimits, locator: FaceLocator, *, most: int, seed: int = SEED
) -> LabelledRows:
    """Return at most `most` items of each class; a fifth of them, but at most 64, are for calibration.

    Raises CallerError where `data` is no such folder or file, a class has fewer than two items that can be read, or
    labels contradict each other, and MissingExtra for records without pyarrow.
    """
    names = (manifest.classes.negative, manifest.classes.positive)
    chooser = np.random.Generator(np.random.PCG64(seed))
    if isinstance(manifest.input, ImageSpec):
        taken = _pictures(data, names, manifest.input, limits, locator, most, chooser)
    else:
        taken = _records(data, names, manifest.input, most, chooser)
    for name, rows in zip(names, taken.rows, strict=True):
        if len(rows) < 2:
            raise CallerError(
                f"{data}: {len(rows)} items of the class {name} can be read, and two are needed at the least.",
                mend="Give items of both classes.",
            )
    held = [min(CALIBRATION_MOST, max(1, len(rows) // CALIBRATION_SHARE)) for rows in taken.rows]
    negative, positive = taken.rows
    parts = [negative[: held[0]], positive[: held[1]], negative[held[0] :], positive[held[1] :]]
    labels = np.repeat(np.array([0, 1, 0, 1], np.int8), [len(part) for part in parts])
    return LabelledRows(data.name, taken.sha256, seed, np.concatenate(parts), labels, sum(held), taken.caveats)


def _pictures(
    data: Path,
    names: tuple[str, str],
    spec: ImageSpec,
    limits: InputLimits,
    locator: FaceLocator,
    most: int,
    chooser: np.random.Generator,
) -> _Taken:
    for name in names:
        if not (data / name).is_dir():
            raise CallerError(
                f"{data} has no sub-folder {name}.",
                mend=f"Name a folder with the sub-folders {names[0]} and {names[1]}.",
            )
    found: list[NDArray[Any]] = []
    class_of: dict[str, str] = {}
    listing = hashlib.sha256()
    left_out: Counter[str] = Counter()
    for name in names:
        files = sorted(path for path in (data / name).rglob("*") if path.is_file() and not path.name.startswith("."))
        rows: list[NDArray[np.uint8]] = []
        for place in chooser.permutation(len(files)).tolist():
            path = files[place]
            if len(rows) == most:
                break
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if class_of.get(digest, name) != name:
                raise CallerError(
                    f"{path} stands in both classes, so the labels contradict each other.",
                    mend="Remove one of the two.",
                )
            if digest in class_of:
                left_out["are there twice"] += 1
                continue
            class_of[digest] = name
            try:
                prepared = prepare_media(path, spec, None, limits, locator)
            except CallerError as error:
                left_out[f"cannot be judged ({error.code})"] += 1
                continue
            rows.append(np.asarray(prepared.tensor[0], np.uint8))
            listing.update(f"{name}\t{path.relative_to(data / name).as_posix()}\t{digest}\n".encode())
        shape = (0, spec.height, spec.width, 3)
        found.append(np.stack(rows) if rows else np.empty(shape, np.uint8))
    caveats = tuple(f"{count} files {why} and were left out" for why, count in sorted(left_out.items()))
    return _Taken((found[0], found[1]), listing.hexdigest(), caveats)


def _records(data: Path, names: tuple[str, str], spec: RecordSpec, most: int, chooser: np.random.Generator) -> _Taken:
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtra(
            "Reading Parquet needs what the extra `evaluate` brings.",
            mend="Install it: pip install 'discern-detectors[evaluate]'.",
            extra="evaluate",
        )
    import pyarrow as pa  # noqa: PLC0415 - needs an extra
    import pyarrow.parquet as pq  # noqa: PLC0415 - needs an extra

    fields = [field.name for field in spec.fields]
    try:
        table = pq.read_table(data)
    except (OSError, pa.ArrowException) as error:
        raise UnreadableInput(f"{data} cannot be read as Parquet: {str(error).splitlines()[0]}.") from error
    missing = sorted({LABEL, *fields} - set(table.column_names))
    if missing:
        raise InvalidRecord(
            f"{data} has no column {missing[0]!r}.",
            mend=f"The table needs a column for each field of the detector, and {LABEL}.",
            faults=[f"{name}: missing" for name in missing],
        )
    labels = np.array([_label(value, names) for value in table.column(LABEL).to_pylist()], np.int8)
    taken: list[NDArray[Any]] = []
    left_out = 0
    for label in (0, 1):
        places = chooser.permutation(np.flatnonzero(labels == label))
        rows: list[NDArray[np.float32]] = []
        # A row that cannot be judged is made up for by a further one.
        for start in range(0, len(places), max(1, most)):
            if len(rows) >= most:
                break
            for record in table.take(places[start : start + most]).select(fields).to_pylist():
                try:
                    rows.append(prepare_record(record, spec)[0])
                except InvalidRecord:
                    left_out += 1
        taken.append(np.stack(rows[:most]) if rows else np.empty((0, len(fields)), np.float32))
    caveats = (f"{left_out} records cannot be judged and were left out",) if left_out else ()
    return _Taken((taken[0], taken[1]), hashlib.sha256(data.read_bytes()).hexdigest(), caveats)


def _label(value: object, names: tuple[str, str]) -> int:
    for label, name in enumerate(names):
        if value == name or (not isinstance(value, str) and value == label):
            return label
    raise InvalidRecord(
        f"The {LABEL} {value!r} is neither class.", mend=f"Write 0 or {names[0]}, and 1 or {names[1]}.", faults=[LABEL]
    )
