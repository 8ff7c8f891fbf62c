"""A dataset, or a part of it, as it would be under a condition: what the run scores like any other.

- A condition changes content, never labels, groups or their order; row i is the same item under every condition.
- An item that the condition cannot change, because nothing can be read of it, is passed on as it is.
- The digest of the result pins the dataset, the part, the condition, the strength and the seed.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from discern.core.errors import CallerError, DatasetRefused
from discern.evaluation.conditions import records
from discern.evaluation.conditions.media import Corrupted, Moved, corrupted, item_seed
from discern.evaluation.datasets import changed
from discern.evaluation.ports import Labelled, MediaPiece, Piece, RowsPiece
from discern.evaluation.types_datasets import Change
from discern.inputs.sniffing import sniff
from discern.inputs.source import opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from discern.evaluation.conditions.registry import Condition
    from discern.evaluation.types import Examples, Item, ItemKind
    from discern.inputs.spec import RecordSpec
    from discern.inputs.types import InputLimits, MediaContent

FORMAT = 1
"""Raised with every change of what a condition does, so that nothing scored before is taken for it."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One strength of one condition. `deviations` [fields] are those of the dataset's numbers, None without records."""

    condition: Condition
    strength: int
    deviations: NDArray[np.float64] | None = None


class Tried:
    """A part of a dataset under one strength of a condition, or as it is where `trial` is None.

    `rows` [n] are the rows that are taken, in rising order.
    """

    def __init__(
        self,
        source: Labelled,
        rows: NDArray[np.int64],
        trial: Trial | None,
        *,
        spec: RecordSpec | None,
        seed: int,
        limits: InputLimits,
        threads: int,
    ) -> None:
        named = None if trial is None else (trial.condition.name, trial.strength)
        self.name = source.name if named is None else f"{source.name}, {named[0]} {named[1]}"
        parameters = None if trial is None else trial.condition.parameters(trial.strength)
        # By their ids: row 3 of one side of a dataset is another item than row 3 of another side.
        ids = [source.examples.ids[row] for row in rows.tolist()]
        pinned = (FORMAT, source.manifest_sha256, ids, named, parameters, seed)
        self.manifest_sha256 = hashlib.sha256(msgspec.json.encode(pinned, order="sorted")).hexdigest()
        self._source = source
        self._rows = rows
        self._trial = trial
        self._spec = spec
        self._seed = seed
        self._limits = limits
        self._threads = threads
        self._groups = source.examples.groups

    @property
    def examples(self) -> Examples:
        """Return the rows that are taken."""
        whole = self._source.examples
        return replace(
            whole,
            dataset=self.name,
            manifest_sha256=self.manifest_sha256,
            ids=tuple(whole.ids[row] for row in self._rows.tolist()),
            labels=whole.labels[self._rows],
            groups=whole.groups[self._rows],
            subgroups={name: values[self._rows] for name, values in whole.subgroups.items()},
            amounts=None if whole.amounts is None else whole.amounts[self._rows],
            days=None if whole.days is None else whole.days[self._rows],
            cards=None if whole.cards is None else whole.cards[self._rows],
            videos=None,
            events={},
        )

    def pieces(self, skip: int) -> Iterator[Piece]:
        """Yield the pieces of the dataset, less what is not taken."""
        start = 0
        latest: dict[int, NDArray[np.float32]] = {}
        for piece in self._source.pieces(0):
            first, last = np.searchsorted(self._rows, [piece.start, piece.start + piece.rows])
            inside = self._rows[first:last] - piece.start
            needs_before = self._trial is not None and self._trial.condition.name == "stale_values"
            before = self._before(piece, latest) if needs_before and isinstance(piece, RowsPiece) else None
            if not len(inside):
                continue
            if start >= skip:
                yield (
                    self._records(piece, inside, start, before)
                    if isinstance(piece, RowsPiece)
                    else self._media(piece, inside, start)
                )
            start += len(inside)

    def _before(self, piece: RowsPiece, latest: dict[int, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return for each row of a piece the record before of its group, NaN where there is none."""
        before = np.full_like(piece.matrix, np.nan)
        groups = self._groups[piece.start : piece.start + piece.rows]
        order = np.argsort(groups, kind="stable")
        follows = groups[order[1:]] == groups[order[:-1]]
        before[order[1:][follows]] = piece.matrix[order[:-1][follows]]
        for place in order[np.concatenate([[True], ~follows])].tolist():
            before[place] = latest.get(int(groups[place]), before[place])
        for place in order[np.concatenate([~follows, [True]])].tolist():
            latest[int(groups[place])] = piece.matrix[place]
        return before

    def _records(
        self, piece: RowsPiece, inside: NDArray[np.int64], start: int, before: NDArray[np.float32] | None
    ) -> RowsPiece:
        rows = piece.matrix[inside]
        refused = {place: piece.refused[row] for place, row in enumerate(inside.tolist()) if row in piece.refused}
        if self._trial is None or self._spec is None:
            return RowsPiece(start, rows, refused)
        hurt = self._hurt(rows, None if before is None else before[inside], piece.start)
        return RowsPiece(start, hurt, records.refusals(hurt, self._spec) | refused)

    def _hurt(
        self, rows: NDArray[np.float32], before: NDArray[np.float32] | None, piece_start: int
    ) -> NDArray[np.float32]:
        assert self._trial is not None and self._spec is not None  # noqa: S101, PT018 - checked by the caller
        name, strength = self._trial.condition.name, self._trial.strength
        parameters = self._trial.condition.parameters(strength)
        # A record has no digest here: its place in the pinned dataset stands for it.
        own = _generator(item_seed(f"{self._source.manifest_sha256}#{piece_start}", name, strength, self._seed))
        same = _generator(item_seed(self._source.manifest_sha256, name, 0, self._seed))
        match name:
            case "missing_fields":
                return records.missing_fields(rows, self._spec, own, share=parameters["share"])
            case "shifted_fields":
                spread = self._trial.deviations
                assert spread is not None  # noqa: S101 - measured for every dataset of records
                return records.shifted_fields(
                    rows, self._spec, same, deviations=parameters["deviations"], spread=spread
                )
            case "scaled_units":
                return records.scaled_units(rows, self._spec, same, factor=parameters["factor"])
            case _:
                assert before is not None  # noqa: S101 - made for this condition
                return records.stale_values(rows, before, own, share=parameters["share"])

    def _media(self, piece: MediaPiece, inside: NDArray[np.int64], start: int) -> MediaPiece:
        items = tuple(piece.items[row] for row in inside.tolist())
        contents = tuple(piece.contents[row] for row in inside.tolist())
        if self._trial is None:
            return MediaPiece(start, items, contents)
        # Clips are decoded one at a time: their frames take much memory.
        threads = 1 if self._trial.condition.takes == ("video",) or _has_clip(contents) else self._threads
        with ThreadPoolExecutor(threads, thread_name_prefix="conditions") as pool:
            changed = list(pool.map(self._one, items, contents))
        return MediaPiece(start, tuple(item for item, _ in changed), tuple(content for _, content in changed))

    def _one(self, item: Item, content: MediaContent) -> tuple[Item, MediaContent]:
        assert self._trial is not None  # noqa: S101 - checked by the caller
        condition, strength = self._trial.condition, self._trial.strength
        try:
            with opened(content) as source:
                found = source.sha256()
            if found != item.sha256:
                raise changed([Change(item.id, "changed")])
            if kind_of(content) not in condition.takes:
                return item, content
            hurt = corrupted(
                content,
                condition,
                strength,
                item_seed(item.sha256, condition.name, strength, self._seed),
                self._limits,
                item.frames,
            )
        except DatasetRefused:
            raise
        except CallerError:
            return item, content
        return _moved(item, hurt), hurt.content


def kind_of(content: MediaContent) -> ItemKind | None:
    """Return whether content is a picture or a clip, None where it is neither."""
    try:
        with opened(content) as source:
            return sniff(source.head).kind
    except CallerError:
        return None


def first_kind(source: Labelled) -> ItemKind | None:
    """Return what a dataset holds, by its first item of which anything can be read; datasets are of one kind."""
    for piece in source.pieces(0):
        if isinstance(piece, RowsPiece):
            return "record"
        for content in piece.contents:
            kind = kind_of(content)
            if kind is not None:
                return kind
    return None


def some_rows(labels: NDArray[np.int8], most: int, seed: int) -> NDArray[np.int64]:
    """Return the positions of at most `most` rows of each class, drawn, in rising order."""
    drawn = _generator(seed)
    taken = [drawn.permutation(np.flatnonzero(labels == label))[:most] for label in (0, 1)]
    return np.sort(np.concatenate(taken)).astype(np.int64)


def _has_clip(contents: tuple[MediaContent, ...]) -> bool:
    return any(kind_of(content) == "video" for content in contents)


def _moved(item: Item, hurt: Corrupted) -> Item:
    digest = hashlib.sha256(hurt.content).hexdigest()
    crop = item.crop if item.crop is None or hurt.moved == Moved() else hurt.moved.box(item.crop)
    frames = None if item.frames is None else tuple(range(hurt.frames))
    return msgspec.structs.replace(item, sha256=digest, crop=crop, frames=frames)


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))
