"""Frozen datasets as the run takes them: in pieces, with what a reader must know of them.

- A folder, a Parquet or a CSV file that nobody froze is frozen here, by the same code as `discern dataset freeze`: its
  digest names the result too, and the report keeps its manifest.
- Pieces begin at the same rows whatever was skipped, and row i of the pieces is row i of `examples`.
- A file that is gone ends the run; one that is there and cannot be judged is counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from discern.core.errors import CallerError, DatasetRefused, UnreadableInput, UnsupportedInput
from discern.evaluation.datasets import changed, examples_of, freeze, items_of, read_manifest, rows_of
from discern.evaluation.datasets_contents import Contents, contents_of, needs_extra
from discern.evaluation.datasets_leakage import leakage
from discern.evaluation.ports import MediaPiece, Piece, RowsPiece
from discern.evaluation.rules_datasets import caveats_of
from discern.evaluation.types_datasets import Change, FrozenManifest, Leakage
from discern.inputs.columns import prepare_columns
from discern.inputs.faces import Box, FaceLocator, GivenFace
from discern.inputs.spec import RecordSpec

if TYPE_CHECKING:
    from discern.detectors.manifest import Manifest
    from discern.evaluation.datasets_freezing import Watch
    from discern.evaluation.types import Examples, Item
    from discern.inputs.types import InputLimits, MediaContent

PIECE_FILES = 16
_NAME = re.compile(r"[\w.-]{1,64}")
_TABLES = {".parquet", ".csv"}


@dataclass(frozen=True, slots=True)
class Asked:
    """How addresses are read: `[NAME=]DIR` and `[NAME=]SIDE`, and the columns of a table that nobody froze."""

    roots: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    label: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class FrozenSource:
    """A frozen dataset below a root, or one side of it. `made` tells that it was frozen for this run."""

    name: str
    manifest: FrozenManifest
    root: Path
    split: str | None
    made: bool
    limits: InputLimits
    spec: RecordSpec | None

    @property
    def manifest_sha256(self) -> str:
        """The digest that pins what was measured."""
        return self.manifest.sha256

    @property
    def may_be_shown(self) -> bool:
        """Whether a report may hold pictures of its items."""
        return self.manifest.may_be_shown and self.manifest.kind != "record"

    @property
    def caveats(self) -> tuple[str, ...]:
        """What a reader must know of it, a sentence each."""
        found = list(self.manifest.caveats)
        if self.split is not None:
            groups = len(np.unique(self.examples.groups))
            found += caveats_of(self.examples.labels, self.manifest.classes, groups)
        return tuple(f"{self.name}: {caveat}" for caveat in dict.fromkeys(found))

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """The items of media; none of records."""
        return () if self.manifest.table is not None else items_of(self.manifest, self.split)

    @cached_property
    def examples(self) -> Examples:
        """The labelled items as columns. Raises DatasetRefused."""
        return replace(examples_of(self.manifest, self.split, self.root), dataset=self.name)

    def pieces(self, skip: int) -> Iterator[Piece]:
        """Yield the pieces from row `skip` on, which is where a piece begins. Raises DatasetRefused."""
        if self.spec is not None:
            for part in rows_of(self.manifest, self.root, self.spec, self.split):
                if part.start >= skip:
                    rows = prepare_columns(part.columns, part.rows, self.spec)
                    yield RowsPiece(part.start, rows.matrix, rows.refused)
            return
        contents = contents_of((item.id for item in self.items[skip:]), self.root, self.limits)
        for start in range(skip, len(self.items), PIECE_FILES):
            items = self.items[start : start + PIECE_FILES]
            held = [next(contents) for _ in items]
            gone = [
                Change(item.id, "missing")
                for item, content in zip(items, held, strict=True)
                if isinstance(content, UnreadableInput) or (isinstance(content, Path) and not content.is_file())
            ]
            if gone:
                raise changed(gone)
            yield MediaPiece(start, items, tuple(one for one in held if not isinstance(one, UnreadableInput)))

    def content(self, row: int) -> MediaContent:
        """Return the content of one item of media. Raises UnreadableInput."""
        with Contents(self.root, self.limits) as contents:
            return contents.of(self.items[row].id)

    def leakage(
        self, against: FrozenManifest | None, against_root: Path, *, pictures: bool, watch: Watch | None = None
    ) -> tuple[Leakage, ...]:
        """Return what the sides of the dataset share, and what it shares with another one. Raises DatasetRefused."""
        table = self.manifest.table
        has_sides = self.manifest.split_rule is not None or any(item.split for item in self.manifest.items)
        has_sides |= table is not None and table.columns.split is not None
        found = [leakage(self.manifest, self.root, near=pictures and has_sides, watch=watch)]
        if against is not None:
            found.append(
                leakage(self.manifest, self.root, against, against_root, near=pictures, split=self.split, watch=watch)
            )
        return tuple(found)


def source_of(
    address: str, detector: Manifest, asked: Asked, limits: InputLimits, watch: Watch | None = None
) -> FrozenSource:
    """Return the dataset that `[NAME=]PATH` names: a manifest, a folder of classes, Parquet or CSV.

    Raises DatasetRefused, and CallerError where the detector does not take it.
    """
    name, place = named(address)
    path = Path(place)
    made = path.suffix != ".json"
    if not made:
        manifest = read_manifest(path)
        root = _given(asked.roots, name or manifest.name)
        folder = path.absolute().parent if root is None else Path(root)
    elif path.is_dir():
        if isinstance(detector.input, RecordSpec):
            raise UnsupportedInput(f"{detector.name} takes records, {path} is a folder.", mend="Name a table.")
        folder = path
        manifest = _frozen_folder(path, name, detector, limits, watch)
    elif path.suffix in _TABLES and path.is_file():
        if not isinstance(detector.input, RecordSpec):
            raise UnsupportedInput(
                f"{detector.name} takes {detector.input.kind}s, {path} is a table.",
                mend="Name a folder, or freeze the table with the column of its paths.",
            )
        folder = path.absolute().parent
        manifest = _frozen_table(path, name, detector, asked)
    else:
        raise CallerError(
            f"{address} is no dataset.",
            mend="Name a frozen manifest, a folder with a sub-folder for each class, a Parquet or a CSV file.",
        )
    shown = name or manifest.name
    return side_of(manifest, folder, _given(asked.splits, shown), detector, limits, name=shown, made=made)


def side_of(
    manifest: FrozenManifest,
    root: Path,
    split: str | None,
    detector: Manifest,
    limits: InputLimits,
    *,
    name: str | None = None,
    made: bool = False,
) -> FrozenSource:
    """Return a frozen dataset below a root, or one side of it. Raises UnsupportedInput where it does not fit."""
    _check_fits(manifest, detector)
    spec = detector.input if isinstance(detector.input, RecordSpec) else None
    return FrozenSource(name or manifest.name, manifest, root, split, made, limits, spec)


def chosen_on(by: Mapping[str, Any], sha256: str, split: str | None) -> bool:
    """Tell whether what a manifest says was chosen or fitted `by` some data was so on items of a dataset, or its side.

    `sha256` is the digest of the frozen manifest, `split` the side that is meant, None for all items.
    """
    return by.get("manifest_sha256") == sha256 and (split is None or by.get("split") in {None, split})


def flattered(detector: Manifest, sha256: str, split: str | None) -> Iterator[str]:
    """Yield which figures of a detector are too good on a dataset, or its side, because of what was chosen on it."""
    name = f"{detector.name} {detector.version}"
    if chosen_on(detector.decision.chosen_by, sha256, split):
        yield f"The thresholds of {name} were chosen on these items: what becomes of each class is flattered."
    for stage in detector.stages:
        if chosen_on(stage.calibration.fitted_by, sha256, split):
            yield f"Stage {stage.name} of {name} was calibrated on these items: its calibration is flattered."


def locator_for(item: Item, locator: FaceLocator) -> FaceLocator:
    """Return what finds the face of an item: the dataset's own box, where it gives one."""
    return locator if item.crop is None else GivenFace(Box(*item.crop))


def named(address: str) -> tuple[str | None, str]:
    """Return the name that stands before a path, where one does, and the path."""
    name, equals, place = address.partition("=")
    return (name, place) if equals and _NAME.fullmatch(name) and not Path(address).exists() else (None, address)


def _given(pairs: Sequence[str], name: str) -> str | None:
    """Return what is given for a name, or for all."""
    found = dict(named(pair) for pair in pairs)
    return found.get(name, found.get(None))


def _frozen_folder(
    path: Path, name: str | None, detector: Manifest, limits: InputLimits, watch: Watch | None
) -> FrozenManifest:
    classes = {"positive": detector.classes.positive, "negative": detector.classes.negative}
    try:
        return freeze(path, "folder", classes, name=name, leave_out_unreadable=True, limits=limits, watch=watch)
    except DatasetRefused as error:
        there = {one.name for pattern in ("*", "*/*") for one in path.glob(pattern) if one.is_dir()}
        if there >= set(classes.values()):
            raise
        raise DatasetRefused(
            f"{path} has no folders {classes['negative']} and {classes['positive']}, which is what {detector.name} "
            f"calls its classes; it has {', '.join(sorted(there)[:8]) or 'none'}.",
            mend="Name them so, or say what they are: `discern dataset freeze FOLDER --layout folder --positive NAME`, "
            "and evaluate the manifest.",
        ) from error


def _frozen_table(path: Path, name: str | None, detector: Manifest, asked: Asked) -> FrozenManifest:
    needs_extra()
    from discern.evaluation.datasets_tables import holds_text  # noqa: PLC0415 - needs an extra

    label = asked.label or "label"
    words = ("0", "1")
    if holds_text(path.absolute().parent, path.name, label):
        words = (f"0,false,{detector.classes.negative}", f"1,true,{detector.classes.positive}")
    options = {"file": path.name, "label": label, "negative": words[0], "positive": words[1]}
    options |= {} if asked.group is None else {"group": asked.group}
    return freeze(path.absolute().parent, "table", options, name=name or path.name)


def _check_fits(manifest: FrozenManifest, detector: Manifest) -> None:
    negative, positive = manifest.classes
    if (negative, positive) == (detector.classes.positive, detector.classes.negative):
        raise CallerError(
            f"{detector.name} takes {negative} for positive, {manifest.name} {positive}.",
            mend="Freeze the dataset with the positive class of the detector.",
        )
    takes_records = isinstance(detector.input, RecordSpec)
    if takes_records != (manifest.kind == "record") or (manifest.kind == "video" and detector.video is None):
        raise UnsupportedInput(
            f"{detector.name} takes {detector.input.kind}s, {manifest.name} holds {manifest.kind}s.",
            mend="Name another.",
        )
