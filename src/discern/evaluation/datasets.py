"""Datasets that can be named: frozen once, read back only as they were, and split by what belongs together.

- A manifest is written in one step and never changed; splitting makes another one, with another digest.
- Items are opened only while their digests hold; the error names what changed.
- Rows of `examples_of` and items of `open_items` and `rows_of` come in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from discern.core.errors import CallerError, DatasetRefused, UnreadableInput
from discern.detectors.files import replacing
from discern.evaluation.datasets_contents import contents_of, digest_of, each, needs_extra
from discern.evaluation.datasets_freezing import MOST_NAMED, Watch, frozen_media, frozen_table
from discern.evaluation.layouts.reading import check_utf_8, some
from discern.evaluation.layouts.registry import layout_of
from discern.evaluation.rules_datasets import contradictions_of, numbered
from discern.evaluation.rules_splits import (
    check_group_rule,
    check_time_rule,
    empty_sides,
    sides_by_group,
    sides_by_time,
)
from discern.evaluation.types import Examples, Item
from discern.evaluation.types_datasets import (
    FORMAT,
    Change,
    FoundTable,
    FrozenManifest,
    SplitByGroup,
    SplitRule,
    TableFacts,
)
from discern.inputs.columns import Column
from discern.inputs.source import opened
from discern.inputs.spec import RecordSpec
from discern.inputs.types import InputLimits, MediaContent

if TYPE_CHECKING:
    from discern.evaluation.datasets_tables import Roles, Table


_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class TableRows:
    """The fields of `rows` records from record `start` on, as `prepare_columns` takes them."""

    start: int
    rows: int
    columns: dict[str, Column]


def freeze(
    root: Path,
    layout: str,
    options: Mapping[str, str] | None = None,
    *,
    name: str | None = None,
    frames: int | None = None,
    leave_out_unreadable: bool = False,
    may_be_shown: bool = True,
    limits: InputLimits | None = None,
    watch: Watch | None = None,
) -> FrozenManifest:
    """Read a dataset and return what pins it.

    `frames` asks for so many evenly spaced positions of frames in each video. Files that are missing, empty or of
    another type are an error, or with `leave_out_unreadable` a caveat. Raises DatasetRefused.
    """
    if not root.is_dir():
        raise DatasetRefused(f"{root} is not a folder.", mend="Name the folder that the dataset lies in.")
    asked = dict(options or {})
    found = layout_of(layout).find(root, asked)
    named = name or root.resolve().name
    check_utf_8([named])
    if isinstance(found, FoundTable):
        made = frozen_table(root, found, named, layout, asked)
    else:
        made = frozen_media(root, found, named, layout, asked, frames, leave_out_unreadable, limits, watch)
    return msgspec.structs.replace(made, may_be_shown=may_be_shown)


def write_manifest(path: Path, manifest: FrozenManifest) -> None:
    """Write a manifest in one step. Raises DatasetRefused where something stands already, or it cannot be written."""
    if path.exists():
        raise DatasetRefused(f"{path} is there already.", mend="A manifest is never changed: name another file.")
    try:
        with replacing(path.absolute()) as file:
            file.write(manifest.encoded)
    except OSError as error:
        raise DatasetRefused(f"{path} cannot be written: {error.strerror}.", mend="Name another file.") from error


def read_manifest(path: Path, sha256: str | None = None) -> FrozenManifest:
    """Return a manifest; with `sha256` only the one that has this digest. Raises DatasetRefused."""
    try:
        content = path.read_bytes()
        manifest = msgspec.json.decode(content, type=FrozenManifest)
    except OSError as error:
        raise DatasetRefused(f"{path} cannot be read: {error.strerror}.", mend="See the path.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DatasetRefused(f"{path} is no frozen manifest: {error}.", mend="Freeze the dataset.") from error
    if manifest.format != FORMAT or manifest.encoded != content:
        raise DatasetRefused(
            f"{path} was changed since it was written, or is of another version.", mend="Freeze the dataset anew."
        )
    wrong = next(contradictions_of(manifest), None)
    if wrong is not None:
        raise DatasetRefused(f"{path} contradicts itself: {wrong}.", mend="Freeze the dataset anew.")
    if sha256 is not None and sha256 != manifest.sha256:
        raise DatasetRefused(
            f"{path} has the digest {manifest.sha256}, not {sha256}.", mend="Take the manifest that was named."
        )
    return manifest


def examples_of(manifest: FrozenManifest, split: str | None = None, root: Path | None = None) -> Examples:
    """Return the labels, groups and subgroups of the items, of one side where `split` names it.

    Records need the `root`, for their labels stand in the table. Raises DatasetRefused, also where no item is left.
    """
    if manifest.table is not None:
        if root is None:
            raise DatasetRefused("Records are labelled in their table.", mend="Name the folder of the dataset.")
        return _examples_of_table(manifest, manifest.table, root, split)
    items = items_of(manifest, split)
    names = sorted({name for item in items for name in item.subgroups})
    subgroups = {name: np.array([item.subgroups.get(name, "(none)") for item in items], np.object_) for name in names}
    amounts = [item.amount for item in items if item.amount is not None]
    return Examples(
        dataset=manifest.name,
        manifest_sha256=manifest.sha256,
        ids=tuple(item.id for item in items),
        labels=np.array([item.label for item in items], np.int8),
        groups=numbered([item.group for item in items])[0],
        subgroups=subgroups,
        amounts=np.array(amounts) if len(amounts) == len(items) else None,
        days=_days(items) if all(item.at for item in items) else None,
        videos=np.array([item.video for item in items], np.object_) if all(item.video for item in items) else None,
        events={row: item.events for row, item in enumerate(items) if item.events is not None},
    )


def items_of(manifest: FrozenManifest, split: str | None = None) -> tuple[Item, ...]:
    """Return the items of media, of one side where `split` names it. Raises DatasetRefused where none is left."""
    items = tuple(item for item in manifest.items if split is None or item.split == split)
    if not items:
        raise _no_side(split, {item.split for item in manifest.items})
    return items


def open_items(
    manifest: FrozenManifest, root: Path, split: str | None = None, limits: InputLimits | None = None
) -> Iterator[tuple[Item, MediaContent]]:
    """Yield every item with its content: an image's bytes, a video's path or, inside an archive, its bytes.

    Raises DatasetRefused at the first file that is gone or is not what was frozen.
    """
    items = items_of(manifest, split)
    for item, content in zip(items, contents_of([i.id for i in items], root, limits or InputLimits()), strict=True):
        held = _read(content) if manifest.kind == "image" else content
        what = _change(item, held)
        if what is not None or isinstance(held, UnreadableInput):
            raise changed([what or Change(item.id, "missing")])
        yield item, held


def rows_of(manifest: FrozenManifest, root: Path, spec: RecordSpec, split: str | None = None) -> Iterator[TableRows]:
    """Yield the records' fields that `spec` names, in parts.

    Raises DatasetRefused where the table changed, lacks a field, or the detector would be shown what it must not see.
    """
    from discern.evaluation import datasets_tables as tables  # noqa: PLC0415 - needs an extra

    facts = _facts_of_table(manifest)
    _verify(manifest, root)
    table = table_of(manifest, root)
    withheld = {facts.columns.label, facts.columns.split, facts.columns.identifier, *facts.columns.withheld}
    seen = sorted(one.name for one in spec.fields if one.name in withheld)
    if seen:
        raise DatasetRefused(f"The detector would be shown {', '.join(seen)}.", mend="These columns tell the label.")
    there = set(tables.names_of(table))
    missing = sorted(one.name for one in spec.fields if one.name not in there and one.missing == "refuse")
    if missing:
        raise DatasetRefused(
            f"The table has no column {some(missing)}, which the detector needs.", mend="Add it to the table."
        )
    chosen = None if split is None else sides_of(manifest, tables.read_roles(table, facts.columns)) == split
    named = spec.model_copy(update={"fields": tuple(one for one in spec.fields if one.name in there)})
    start = 0
    for columns, rows in tables.field_parts(table, named, chosen):
        yield TableRows(start, rows, columns)
        start += rows


def check_files(manifest: FrozenManifest, root: Path, watch: Watch | None = None) -> list[Change]:
    """Return every file that is gone or is not what was frozen."""
    changes = _changed_files(manifest, root)
    items = iter(manifest.items)
    found = each([item.id for item in manifest.items], root, InputLimits(), _digest)
    for done, (item, digest) in enumerate(zip(items, found, strict=True), 1):
        if digest != item.sha256:
            changes.append(Change(item.id, "missing" if digest is None else "changed"))
        if watch is not None:
            watch(done, len(manifest.items))
    return changes


def with_split(manifest: FrozenManifest, rule: SplitRule, root: Path | None = None) -> FrozenManifest:
    """Return the manifest with sides by the rule, in place of those it had. Records need the `root`.

    Raises DatasetRefused for a rule that leaves a side empty.
    """
    if isinstance(rule, SplitByGroup):
        check_group_rule(rule)
    else:
        check_time_rule(rule)
    if manifest.table is not None:
        if root is None:
            raise DatasetRefused("Records are split by their table.", mend="Name the folder of the dataset.")
        made = msgspec.structs.replace(manifest, split_rule=rule)
        _refuse_empty(rule, sides_of(made, roles_of(made, root)))
        return made
    examples = examples_of(manifest)
    names = numbered([item.group for item in manifest.items])[1]
    sides = _by_rule(rule, examples.groups, names, examples.labels, examples.days)
    _refuse_empty(rule, sides)
    items = tuple(
        msgspec.structs.replace(item, split=side) for item, side in zip(manifest.items, sides.tolist(), strict=True)
    )
    return msgspec.structs.replace(manifest, items=items, split_rule=rule)


def roles_of(manifest: FrozenManifest, root: Path) -> Roles:
    """Return what the columns of a frozen table say of each row. Raises DatasetRefused where the table changed."""
    from discern.evaluation import datasets_tables as tables  # noqa: PLC0415 - needs an extra

    facts = _facts_of_table(manifest)
    _verify(manifest, root)
    return tables.read_roles(table_of(manifest, root), facts.columns)


def sides_of(manifest: FrozenManifest, roles: Roles) -> NDArray[np.object_]:
    """Return the side of each row of a table, None for those on none."""
    if manifest.split_rule is not None:
        return _by_rule(manifest.split_rule, roles.groups, roles.group_names, roles.labels, roles.days)
    return np.full(len(roles.labels), None, np.object_) if roles.splits is None else roles.splits


def table_of(manifest: FrozenManifest, root: Path) -> Table:
    """Return how the rows of a frozen table are read. Raises DatasetRefused for a dataset of media."""
    from discern.evaluation import datasets_tables as tables  # noqa: PLC0415 - needs an extra

    facts = _facts_of_table(manifest)
    return tables.Table(root, facts.paths, facts.conditions, facts.join)


def changed(changes: Sequence[Change]) -> DatasetRefused:
    """Return the error for files that are not what was frozen."""
    missing = sum(change.what == "missing" for change in changes)
    return DatasetRefused(
        f"{len(changes):,} files are not what was frozen, {missing:,} gone: {some(one.path for one in changes)}.",
        mend="Restore them, or freeze the dataset anew under another name.",
        files=sorted(change.path for change in changes)[:MOST_NAMED],
    )


def _examples_of_table(manifest: FrozenManifest, facts: TableFacts, root: Path, split: str | None) -> Examples:
    roles = roles_of(manifest, root)
    ids = roles.ids(facts.paths)
    chosen: NDArray[np.intp] | slice = slice(None)
    if split is not None:
        sides = sides_of(manifest, roles)
        chosen = np.flatnonzero(sides == split)
        if not len(chosen):
            raise _no_side(split, set(sides.tolist()))
        ids = tuple(ids[position] for position in chosen)
    return Examples(
        dataset=manifest.name,
        manifest_sha256=manifest.sha256,
        ids=ids,
        labels=roles.labels[chosen],
        groups=roles.groups[chosen],
        subgroups={name: values[chosen] for name, values in roles.subgroups.items()},
        amounts=None if roles.amounts is None else roles.amounts[chosen],
        days=None if roles.days is None else roles.days[chosen],
        cards=None if roles.cards is None else roles.cards[chosen],
    )


def _by_rule(
    rule: SplitRule,
    groups: NDArray[np.int64],
    names: Sequence[str],
    labels: NDArray[np.int8],
    days: NDArray[np.int64] | None,
) -> NDArray[np.object_]:
    if isinstance(rule, SplitByGroup):
        return sides_by_group(rule, groups, names, labels)
    if days is None:
        raise DatasetRefused("The dataset has no times to split by.", mend="Split by group, or name a column `at`.")
    return sides_by_time(rule, days)


def _refuse_empty(rule: SplitRule, sides: NDArray[np.object_]) -> None:
    empty = empty_sides(rule, sides)
    if empty:
        raise DatasetRefused(
            f"Nothing went to {', '.join(empty)}.", mend="Name fewer sides or other days; a group is never parted."
        )


def _no_side(split: str | None, sides: set[str | None]) -> DatasetRefused:
    named = sorted(side for side in sides if side is not None)
    return DatasetRefused(
        f"There is no item on the side {split}." if split else "There is no item.",
        mend=f"The sides are: {', '.join(named) or 'none; make some with discern dataset split'}.",
    )


def _facts_of_table(manifest: FrozenManifest) -> TableFacts:
    needs_extra()
    if manifest.table is None:
        raise DatasetRefused(f"{manifest.name} is a dataset of {manifest.kind}s.", mend="Name one of records.")
    return manifest.table


def _verify(manifest: FrozenManifest, root: Path) -> None:
    changes = _changed_files(manifest, root)
    if changes:
        raise changed(changes)


def _changed_files(manifest: FrozenManifest, root: Path) -> list[Change]:
    changes = []
    for file in manifest.files:
        try:
            if digest_of(root, file.path) != file:
                changes.append(Change(file.path, "changed"))
        except UnreadableInput:
            changes.append(Change(file.path, "missing"))
    return changes


def _read(content: MediaContent | UnreadableInput) -> MediaContent | UnreadableInput:
    if not isinstance(content, Path):
        return content
    try:
        return content.read_bytes()
    except OSError as error:
        return UnreadableInput(f"{content} cannot be read: {error.strerror}.")


def _digest(content: MediaContent | UnreadableInput) -> str | None:
    """Return the digest of a content, None where there is none."""
    if isinstance(content, UnreadableInput):
        return None
    try:
        with opened(content) as source:
            return source.sha256()
    except CallerError:
        return None


def _change(item: Item, content: MediaContent | UnreadableInput) -> Change | None:
    digest = _digest(content)
    return None if digest == item.sha256 else Change(item.id, "missing" if digest is None else "changed")


def _days(items: Sequence[Item]) -> NDArray[np.int64]:
    days = []
    for item in items:
        try:
            at = datetime.fromisoformat(item.at or "")
        except ValueError as error:
            raise DatasetRefused(
                f"{item.id}: {item.at!r} is no ISO 8601 time.", mend="Write it like 2018-07-25T14:30:00+02:00."
            ) from error
        day = at.date() if at.tzinfo is None else at.astimezone(UTC).date()
        days.append(day.toordinal() - _EPOCH)
    return np.array(days, np.int64)
