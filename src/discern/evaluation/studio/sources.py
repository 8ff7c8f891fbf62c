"""A frozen dataset, or one side of it, as what a run scores."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.core.errors import CallerError, UnsupportedInput
from discern.evaluation.datasets import examples_of, open_items, rows_of
from discern.evaluation.ports import MediaPiece, Piece, RowsPiece
from discern.evaluation.types import Examples
from discern.evaluation.types_datasets import FrozenManifest
from discern.inputs.columns import prepare_columns
from discern.inputs.spec import InputSpec, RecordSpec
from discern.inputs.types import InputLimits, MediaContent

PIECE_FILES = 16


class SideSource:
    """The items of a manifest on the side `split`, or all of them.

    Raises UnsupportedInput where the detector takes no such items, and DatasetRefused.
    """

    leakage: Any = None
    may_be_shown = False

    def __init__(
        self, manifest: FrozenManifest, root: Path, split: str | None, spec: InputSpec, limits: InputLimits
    ) -> None:
        takes_records = isinstance(spec, RecordSpec)
        if takes_records != (manifest.table is not None):
            kinds = "records" if takes_records else "images"
            raise UnsupportedInput(f"The detector takes {kinds}, {manifest.name} holds {manifest.kind}s.")
        self.name = manifest.name if split is None else f"{manifest.name}, {split}"
        self.manifest_sha256 = manifest.sha256
        self.caveats = manifest.caveats
        self._manifest, self._root, self._split, self._spec, self._limits = manifest, root, split, spec, limits

    def examples(self) -> Examples:
        """Return the labelled items."""
        return examples_of(self._manifest, self._split, self._root)

    def pieces(self, skip: int) -> Iterator[Piece]:
        """Yield some items at a time."""
        return self._records(skip) if isinstance(self._spec, RecordSpec) else self._media(skip)

    def content(self, row: int) -> MediaContent:
        """Return nothing: the studio shows no pictures."""
        raise CallerError(f"Item {row} of {self.name} is not shown.", mend="Leave it out.")

    def column(self, field: str) -> NDArray[np.float64]:
        """Return one field of every record, NaN where it has none. Raises CallerError where it is no field."""
        spec = self._spec
        named = tuple(one for one in spec.fields if one.name == field) if isinstance(spec, RecordSpec) else ()
        if not isinstance(spec, RecordSpec) or not named:
            raise CallerError(f"The detector has no field {field!r}.", mend="`discern detector show` lists them.")
        alone = spec.model_copy(update={"fields": named})
        parts = []
        for part in rows_of(self._manifest, self._root, alone, self._split):
            rows = prepare_columns(part.columns, part.rows, alone)
            values = rows.matrix[:, 0].astype(np.float64)
            values[list(rows.refused)] = np.nan
            parts.append(values)
        return np.concatenate(parts)

    def _records(self, skip: int) -> Iterator[Piece]:
        assert isinstance(self._spec, RecordSpec)  # noqa: S101 - asked before
        for part in rows_of(self._manifest, self._root, self._spec, self._split):
            if part.start >= skip:
                rows = prepare_columns(part.columns, part.rows, self._spec)
                yield RowsPiece(part.start, rows.matrix, rows.refused)

    def _media(self, skip: int) -> Iterator[Piece]:
        items = open_items(self._manifest, self._root, self._split, self._limits)
        start = 0
        while some := list(islice(items, PIECE_FILES)):
            if start >= skip:
                yield MediaPiece(start, tuple(item for item, _ in some), tuple(content for _, content in some))
            start += len(some)
