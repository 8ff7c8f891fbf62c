"""Datasets that need no manifest: a folder with a sub-folder for each class, and a Parquet file of records.

- What is measured is pinned by a digest over every file's digest and label, or of the file and its columns' roles.
- Pieces begin at the same rows whatever was skipped.
- Every file or row is a group of its own unless a column says otherwise, and the report says so.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from discern.core.errors import CallerError, EmptyInput, UnreadableInput
from discern.detectors.manifest import Classes
from discern.evaluation.ports import MediaPiece, Piece, RowsPiece
from discern.evaluation.types import Examples, Item, Label
from discern.inputs.columns import Column, prepare_columns
from discern.inputs.spec import RecordSpec
from discern.inputs.types import MediaContent

PIECE_FILES = 16
PIECE_ROWS = 16_384
_SHOWN = 10
_ALONE = (
    "every file counts as independent, for a plain folder says nothing of persons or videos; intervals are too narrow "
    "where files belong together."
)
_ROWS_ALONE = (
    "every row counts as independent; intervals are too narrow where rows belong together (name their column with "
    "--group)."
)


class FolderSource:
    """A folder with one sub-folder for each class, named as the detector's classes are."""

    leakage = None
    may_be_shown = True

    def __init__(self, root: Path, classes: Classes, *, name: str | None = None) -> None:
        self.name = name or root.resolve().name
        self._root = root
        self.caveats: tuple[str, ...] = (f"{self.name}: {_ALONE}",)
        self._items = _items(root, (classes.negative, classes.positive))
        self.manifest_sha256 = hashlib.sha256(
            msgspec.json.encode([(item.id, item.label, item.sha256) for item in self._items])
        ).hexdigest()

    def examples(self) -> Examples:
        """Return the labelled files."""
        return Examples(
            dataset=self.name,
            manifest_sha256=self.manifest_sha256,
            ids=tuple(item.id for item in self._items),
            labels=np.array([item.label for item in self._items], np.int8),
            groups=np.arange(len(self._items), dtype=np.int64),
        )

    def pieces(self, skip: int) -> Iterator[Piece]:
        """Yield some files at a time."""
        for start in range(skip, len(self._items), PIECE_FILES):
            items = self._items[start : start + PIECE_FILES]
            yield MediaPiece(start, items, tuple(self._root / item.id for item in items))

    def content(self, row: int) -> MediaContent:
        """Return one file."""
        return self._root / self._items[row].id


class TableSource:
    """A Parquet file of records with a column for the label, and one for the group where there is one."""

    leakage = None
    may_be_shown = False

    def __init__(
        self,
        path: Path,
        spec: RecordSpec,
        classes: Classes,
        *,
        label: str,
        group: str | None,
        name: str | None = None,
    ) -> None:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        import pyarrow.parquet as pq  # noqa: PLC0415

        self.name = name or path.name
        self._path = path
        self._spec = spec
        try:
            self._file = pq.ParquetFile(path)
            names = self._file.schema_arrow.names
            missing = [one for one in (label, group) if one is not None and one not in names]
            if missing:
                raise CallerError(
                    f"{path} has no column {missing[0]!r}.", mend="Name it with --label or --group.", file=str(path)
                )
            roles = self._file.read(columns=[one for one in (label, group) if one is not None])
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except (pa.ArrowException, OSError) as error:
            raise UnreadableInput(f"{path} cannot be read as Parquet: {error}.", mend="See the file.") from error
        self._labels = _labels_of(roles.column(label), classes, path)
        self._groups = np.arange(len(self._labels), dtype=np.int64)
        self.caveats: tuple[str, ...] = ()
        if group is None:
            self.caveats = (f"{self.name}: {_ROWS_ALONE}",)
        else:
            codes = roles.column(group).combine_chunks().dictionary_encode().indices
            self._groups = np.asarray(codes.fill_null(-1)).astype(np.int64)
        self._columns = [field.name for field in spec.fields if field.name in names]
        pinned = {"file": digest, "label": label, "group": group, "rows": len(self._labels)}
        self.manifest_sha256 = hashlib.sha256(msgspec.json.encode(pinned)).hexdigest()

    def examples(self) -> Examples:
        """Return the labelled rows."""
        return Examples(
            dataset=self.name,
            manifest_sha256=self.manifest_sha256,
            ids=tuple(f"{self.name}#{row}" for row in range(len(self._labels))),
            labels=self._labels,
            groups=self._groups,
        )

    def pieces(self, skip: int) -> Iterator[Piece]:
        """Yield some thousand rows at a time."""
        start = 0
        for batch in self._file.iter_batches(PIECE_ROWS, columns=self._columns):
            if start >= skip:
                columns = {name: _column(batch.column(place)) for place, name in enumerate(batch.schema.names)}
                rows = prepare_columns(columns, batch.num_rows, self._spec)
                yield RowsPiece(start, rows.matrix, rows.refused)
            start += batch.num_rows

    def content(self, row: int) -> MediaContent:
        """Return nothing: a record is no picture."""
        raise CallerError(f"Row {row} of {self.name} is a record, which has no picture.", mend="Leave it out.")


def _items(root: Path, classes: tuple[str, str]) -> tuple[Item, ...]:
    """Return the files below the two folders, hidden ones left out, in the order of their names."""
    missing = [name for name in classes if not (root / name).is_dir()]
    if len(missing) == len(classes):
        present = sorted(path.name for path in root.iterdir() if path.is_dir())[:_SHOWN]
        raise CallerError(
            f"{root} has neither of the folders {' and '.join(classes)}; it has {', '.join(present) or 'none'}.",
            mend="Name the sub-folders as the detector's classes are, or freeze the dataset with its own layout.",
        )
    labels: tuple[Label, Label] = (0, 1)
    found: list[tuple[str, Label]] = []
    for name, label in zip(classes, labels, strict=True):
        for folder, folders, files in os.walk(root / name):
            folders[:] = [one for one in folders if not one.startswith(".")]
            below = Path(folder).relative_to(root)
            found += [((below / file).as_posix(), label) for file in files if not file.startswith(".")]
    if not found:
        raise EmptyInput(f"{root} holds no files.", mend="See the folder.")
    found.sort()
    with ThreadPoolExecutor() as threads:
        digests = threads.map(_digest, [root / name for name, _ in found])
        return tuple(
            Item(name, label, digest, group=name) for (name, label), digest in zip(found, digests, strict=True)
        )


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableInput(f"{path} cannot be read: {error.strerror}.", mend="See the file.") from error


def _labels_of(column: Any, classes: Classes, path: Path) -> NDArray[np.int8]:  # noqa: ANN401 - pyarrow has no types
    """Return the labels as 0 and 1: the column holds these, truth values, or the names of the classes."""
    positions: dict[object, int] = {classes.negative: 0, classes.positive: 1, 0: 0, 1: 1}  # False and True are 0 and 1
    coded = column.combine_chunks().dictionary_encode()
    words = coded.dictionary.to_pylist()
    unknown = [word for word in words if word not in positions]
    if unknown or coded.null_count:
        raise CallerError(
            f"{path}: the label {unknown[0]!r} is no class." if unknown else f"{path}: some rows have no label.",
            mend=f"Labels are 0 and 1, false and true, or {classes.negative} and {classes.positive}.",
        )
    numbers = np.array([positions[word] for word in words], np.int8)
    labels: NDArray[np.int8] = numbers[np.asarray(coded.indices)]
    return labels


def _column(array: Any) -> Column:  # noqa: ANN401 - pyarrow has no types
    """Return a column as the preparation of records takes it."""
    import pyarrow as pa  # noqa: PLC0415 - an extra

    missing = np.asarray(array.is_null()) if array.null_count else None
    kind = array.type
    if pa.types.is_boolean(kind):
        return Column(np.asarray(array.fill_null(False)), missing)
    if pa.types.is_integer(kind):
        return Column(np.asarray(array.fill_null(0)), missing)
    if pa.types.is_floating(kind):
        return Column(np.asarray(array.fill_null(0.0)), missing)
    coded = array if pa.types.is_dictionary(kind) else array.cast(pa.string()).dictionary_encode()
    words = tuple("" if word is None else str(word) for word in coded.dictionary.to_pylist())
    return Column(np.asarray(coded.indices.fill_null(0)), missing, words)
