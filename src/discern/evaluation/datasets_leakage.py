"""Looks for what the sides of a split, or two datasets, share: files, records, groups, and pictures nearly the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from discern.core.errors import CallerError, DatasetRefused, UnreadableInput
from discern.evaluation.datasets import items_of, roles_of, sides_of, table_of
from discern.evaluation.datasets_contents import each
from discern.evaluation.datasets_freezing import Watch
from discern.evaluation.rules_leakage import contradictions, finding, near_pairs, shared
from discern.evaluation.types import Item
from discern.evaluation.types_datasets import Finding, FrozenManifest, Leakage, SplitByTime
from discern.inputs.image import decode_image
from discern.inputs.sketches import frequency_sketch_of
from discern.inputs.sniffing import SniffedImage, sniff
from discern.inputs.source import opened
from discern.inputs.types import InputLimits, MediaContent
from discern.inputs.video import sample_frames

FRAMES_OF_A_CLIP = 3
_BY_TIME = "Sides by time share customers; that is how they are meant, and groups are not to be trusted between them."
_SAME_NAME = "A group of this name is in both; see whether it is the same one."
_NO_SIDES = "The dataset has no sides."
_GENERIC = frozenset({"folder", "table", "webdataset"})


def leakage(
    manifest: FrozenManifest,
    root: Path,
    other: FrozenManifest | None = None,
    other_root: Path | None = None,
    *,
    near: bool = True,
    split: str | None = None,
    watch: Watch | None = None,
) -> Leakage:
    """Return what the sides of a dataset share, or with `other` what the two datasets do.

    `near=False` leaves out the comparison of pictures, for which every one is decoded. With `other`, `split` names the
    side of the first dataset that is compared, all of it without. Raises DatasetRefused.
    """
    if other is not None and split is not None and manifest.table is None:
        manifest = msgspec.structs.replace(manifest, items=items_of(manifest, split))
    both = [(manifest, root)]
    if other is not None:
        both.append((other, root if other_root is None else other_root))
        if (other.kind == "record") != (manifest.kind == "record"):
            raise DatasetRefused(
                f"{manifest.name} is of {manifest.kind}s and {other.name} of {other.kind}s.", mend="They share nothing."
            )
    if manifest.kind == "record":
        return _of_records(both, split)
    return _of_media(both, near=near, watch=watch)


def _of_media(both: Sequence[tuple[FrozenManifest, Path]], *, near: bool, watch: Watch | None) -> Leakage:
    names = _names(both)
    items = [item for manifest, _ in both for item in manifest.items]
    sides = [
        (item.split if len(both) == 1 else name)
        for name, (manifest, _) in zip(names, both, strict=True)
        for item in manifest.items
    ]
    ids = [item.id for item in items]
    found = shared("same_content", [item.sha256 for item in items], ids, sides)
    checked = ["same_content", "contradicting_labels"]
    not_checked = {} if len(both) > 1 or any(sides) else {"same_content": _NO_SIDES, "same_group": _NO_SIDES}
    contradicting = contradictions([item.sha256 for item in items], ids, [item.label for item in items])
    if contradicting:
        found.append(finding("contradicting_labels", ("", ""), contradicting))
    groups, why_not = _groups(both, [item.group for item in items], ids, sides)
    found += groups
    if why_not is None:
        checked.append("same_group")
    else:
        not_checked["same_group"] = why_not
    unreadable: dict[str, str] = {}
    if near:
        pairs, unreadable, flat = _near(both, items, watch)
        found += _near_findings(pairs, items, sides)
        checked.append("near_duplicate")
        if flat:
            not_checked["near_duplicate"] = f"{flat:,} pictures are too flat to compare."
    else:
        without = len(both) == 1 and not any(sides)
        not_checked["near_duplicate"] = _NO_SIDES if without else "It was left out on request."
    checked = [kind for kind in checked if kind not in not_checked or kind == "near_duplicate"]
    return _leakage(both, sides, checked, not_checked, found, unreadable)


def _groups(
    both: Sequence[tuple[FrozenManifest, Path]], groups: list[str], ids: list[str], sides: Sequence[str | None]
) -> tuple[list[Finding], str | None]:
    """Return what groups are on several sides, or why that was not looked for."""
    layouts = {manifest.layout for manifest, _ in both}
    if len(both) == 1:
        found = shared("same_group", groups, ids, sides)
        by_time = isinstance(both[0][0].split_rule, SplitByTime)
        return _softened(found, _BY_TIME) if by_time else found, None if any(sides) else _NO_SIDES
    if len(layouts) > 1:
        return [], "Groups of different layouts have no names in common."
    found = shared("same_group", groups, ids, sides)
    return _softened(found, _SAME_NAME) if layouts & _GENERIC else found, None


def _softened(found: list[Finding], says: str) -> list[Finding]:
    return [Finding(one.kind, one.sides, one.count, one.examples, leak=False, says=says) for one in found]


def _near(
    both: Sequence[tuple[FrozenManifest, Path]], items: Sequence[Item], watch: Watch | None
) -> tuple[NDArray[np.int64], dict[str, str], int]:
    """Return the pairs of items, by position, that look nearly the same; what is unreadable; how many are flat.

    Of several items with the same content the first stands for all: the others are known to be the same.
    """
    first: dict[str, int] = {}
    for position, item in enumerate(items):
        first.setdefault(item.sha256, position)
    chosen = sorted(first.values())
    sketches: list[tuple[int, ...]] = []
    positions: list[int] = []
    unreadable: dict[str, str] = {}
    flat = 0
    sketched = _sketches(both, items, chosen)
    for done, (position, sketch) in enumerate(zip(chosen, sketched, strict=True), 1):
        if isinstance(sketch, str):
            unreadable[items[position].id] = sketch
        elif sketch is None:
            flat += 1
        else:
            sketches.append(sketch)
            positions.append(position)
        if watch is not None:
            watch(done, len(chosen))
    if len({len(sketch) for sketch in sketches}) > 1:
        # Pictures beside clips: what is compared is the middle of each.
        sketches = [(sketch[len(sketch) // 2],) for sketch in sketches]
    pairs = near_pairs(np.array(sketches, np.uint64).reshape(len(sketches), -1)) if sketches else np.zeros((0, 2), int)
    return np.array(positions, np.int64)[pairs], unreadable, flat


def _sketches(
    both: Sequence[tuple[FrozenManifest, Path]], items: Sequence[Item], chosen: Sequence[int]
) -> Iterator[tuple[int, ...] | str | None]:
    limits = InputLimits()
    start = 0
    for manifest, root in both:
        end = start + len(manifest.items)
        ids = [items[position].id for position in chosen if start <= position < end]
        yield from each(ids, root, limits, lambda content: _sketch(content, limits))
        start = end


def _sketch(content: MediaContent | UnreadableInput, limits: InputLimits) -> tuple[int, ...] | str | None:
    """Return the sketches of a picture or of frames of a clip, None for flat ones, the reason for unreadable ones."""
    if isinstance(content, UnreadableInput):
        return content.detail
    try:
        with opened(content) as source:
            found = sniff(source.head)
            if isinstance(found, SniffedImage):
                source.check_bytes("image_bytes", limits.image_bytes)
                sketch = frequency_sketch_of(decode_image(source.read(), found.format, limits))
                return None if sketch is None else (sketch,)
        frames = [frequency_sketch_of(rgb) for _, rgb in sample_frames(content, FRAMES_OF_A_CLIP, limits)]
    except CallerError as error:
        return error.detail
    known = [sketch for sketch in frames if sketch is not None]
    # A clip of fewer frames, or with a flat one, says its last one again.
    return (*known, *known[-1:] * (FRAMES_OF_A_CLIP - len(known))) if known else None


def _near_findings(pairs: NDArray[np.int64], items: Sequence[Item], sides: Sequence[str | None]) -> list[Finding]:
    between: dict[tuple[str, str], list[tuple[str, str]]] = {}
    apart: list[tuple[str, str]] = []
    for left, right in pairs.tolist():
        one, other = sides[left], sides[right]
        names = (items[left].id, items[right].id)
        if one is not None and other is not None and one != other:
            ordered = names if one < other else (names[1], names[0])
            between.setdefault((min(one, other), max(one, other)), []).append(ordered)
        elif one is None and other is None and items[left].group != items[right].group:
            apart.append(names)
    found = [finding("near_duplicate", names, listed) for names, listed in sorted(between.items())]
    if apart:
        says = "Pictures of different groups are nearly the same: a split by these groups may part them."
        found.append(finding("near_duplicate", ("", ""), apart, leak=False, says=says))
    return found


def _of_records(both: Sequence[tuple[FrozenManifest, Path]], split: str | None) -> Leakage:
    from discern.evaluation import datasets_tables as tables  # noqa: PLC0415 - needs an extra

    names = _names(both)
    common = _fields(both)
    hashes: list[NDArray[np.uint64]] = []
    labels, sides, groups, group_names, ids = [], [], [], [], []
    for name, (manifest, root) in zip(names, both, strict=True):
        roles = roles_of(manifest, root)
        own = sides_of(manifest, roles)
        taken = np.flatnonzero(own == split) if split and len(both) > 1 and not hashes else np.arange(len(own))
        hashes.append(tables.row_hashes(table_of(manifest, root), common)[taken])
        labels.append(roles.labels[taken])
        sides.append(own if len(both) == 1 else np.full(len(taken), name, np.object_))
        groups.append(roles.groups[taken])
        group_names.append(roles.group_names)
        ids.append(roles.ids(manifest.table.paths if manifest.table else ()).taken(taken))
    every_side, every_hash = np.concatenate(sides), np.concatenate(hashes)
    every_id = ids[0] if len(ids) == 1 else [one for part in ids for one in part]
    rows = _first_of_each(every_hash, every_side)
    found = shared("same_row", [str(one) for one in every_hash[rows]], *_taken(every_id, every_side, rows))
    contradicting = _contradicting(every_hash, np.concatenate(labels), every_id)
    if contradicting:
        found.append(finding("contradicting_labels", ("", ""), contradicting))
    every_group, every_name = _of_one_numbering(groups, group_names)
    at = _first_of_each(every_group, every_side)
    grouped, why_not = _groups(both, [every_name[one] for one in every_group[at]], *_taken(every_id, every_side, at))
    not_checked = {} if why_not is None else {"same_group": why_not}
    if why_not == _NO_SIDES:
        not_checked["same_row"] = _NO_SIDES
    checked = [kind for kind in ("same_row", "contradicting_labels", "same_group") if kind not in not_checked]
    return _leakage(both, every_side.tolist(), checked, not_checked, [*found, *grouped], {})


def _of_one_numbering(
    groups: Sequence[NDArray[np.int64]], names: Sequence[Sequence[str]]
) -> tuple[NDArray[np.int64], Sequence[str]]:
    """Return the group of each row of all tables as a position in names that they share, and these."""
    if len(groups) == 1:
        return groups[0], names[0]
    numbers: dict[str, int] = {}
    own = [np.array([numbers.setdefault(name, len(numbers)) for name in part], np.int64) for part in names]
    return np.concatenate([part[rows] for part, rows in zip(own, groups, strict=True)]), list(numbers)


def _fields(both: Sequence[tuple[FrozenManifest, Path]]) -> list[str]:
    """Return the columns that make a record: those that all tables have, without label, split and identifier."""
    from discern.evaluation import datasets_tables as tables  # noqa: PLC0415 - needs an extra

    common: list[str] | None = None
    for manifest, root in both:
        table = table_of(manifest, root)
        roles = manifest.table.columns if manifest.table else None
        left_out = {roles.label, roles.split, roles.identifier, *roles.withheld} if roles else set()
        names = [name for name in tables.names_of(table) if name not in left_out]
        common = names if common is None else [name for name in common if name in names]
    if not common:
        raise DatasetRefused("The tables have no column in common that makes a record.", mend="Compare others.")
    return sorted(common)


def _first_of_each(values: NDArray[np.integer[Any]], sides: NDArray[np.object_]) -> NDArray[np.int64]:
    """Return the first row of each value on each side, of values that are on several sides."""
    codes: dict[object, int] = {}
    coded = np.fromiter((codes.setdefault(side, len(codes)) for side in sides.tolist()), np.int64, len(sides))
    if len(codes) < 2:
        return np.zeros(0, np.int64)
    number = np.unique(values, return_inverse=True)[1].astype(np.int64)
    _, first = np.unique(number * len(codes) + coded, return_index=True)
    several = np.bincount(number[first])[number[first]] > 1
    return np.sort(first[several])


def _taken(
    ids: Sequence[str], sides: NDArray[np.object_], rows: NDArray[np.int64]
) -> tuple[list[str], list[str | None]]:
    return [ids[row] for row in rows.tolist()], sides[rows].tolist()


def _contradicting(hashes: NDArray[np.uint64], labels: NDArray[np.int8], ids: Sequence[str]) -> list[tuple[str, str]]:
    rows = _first_of_each(hashes, labels.astype(np.object_))
    return contradictions([str(one) for one in hashes[rows]], [ids[row] for row in rows], labels[rows].tolist())


def _names(both: Sequence[tuple[FrozenManifest, Path]]) -> list[str]:
    names = [manifest.name for manifest, _ in both]
    if len(set(names)) == len(names):
        return names
    return [f"{manifest.name} {manifest.sha256[:8]}" for manifest, _ in both]


def _leakage(
    both: Sequence[tuple[FrozenManifest, Path]],
    sides: Sequence[str | None],
    checked: Sequence[str],
    not_checked: dict[str, str],
    found: Sequence[Finding],
    unreadable: dict[str, str],
) -> Leakage:
    return Leakage(
        manifests=tuple(manifest.sha256 for manifest, _ in both),
        sides=tuple(sorted({side for side in sides if side is not None})),
        checked=tuple(checked),
        not_checked=not_checked,
        findings=tuple(found),
        unreadable=unreadable,
    )
