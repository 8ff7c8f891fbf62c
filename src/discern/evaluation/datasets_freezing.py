"""What a layout found becomes a manifest: every file is read once, for its digest and for what it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from discern.core.errors import DatasetRefused
from discern.evaluation.datasets_contents import Fact, digests_of, facts_of, needs_extra
from discern.evaluation.layouts.events import Found, events_below
from discern.evaluation.layouts.reading import check_utf_8, some
from discern.evaluation.rules_datasets import caveats_of, contradictory
from discern.evaluation.types import Item
from discern.evaluation.types_datasets import FoundItem, FoundMedia, FoundTable, FrozenManifest, TableFacts
from discern.inputs.types import InputLimits

MOST_NAMED = 100
Watch = Callable[[int, int], None]
"""Told how many items of how many are done."""


def frozen_table(root: Path, found: FoundTable, name: str, layout: str, options: dict[str, str]) -> FrozenManifest:
    """Return what pins a dataset of records. Raises DatasetRefused, MissingExtra."""
    needs_extra()
    from discern.evaluation import datasets_tables as tables  # noqa: PLC0415 - needs an extra

    check_utf_8(found.paths)
    table = tables.Table(root, found.paths, found.conditions, found.join)
    tables.check_columns(found.columns, found.conditions, tables.names_of(table))
    roles = tables.read_roles(table, found.columns)
    facts = TableFacts(
        paths=found.paths,
        columns=found.columns,
        rows=roles.rows,
        kept=len(roles.labels),
        positives=int(roles.labels.sum()),
        groups=len(roles.group_names),
        conditions=found.conditions,
        join=found.join,
    )
    paths = (*found.paths, *(() if found.join is None else (found.join.path,)))
    return FrozenManifest(
        name=name,
        layout=layout,
        kind="record",
        classes=found.classes,
        options=options,
        files=digests_of(root, paths),
        table=facts,
        caveats=(*found.caveats, *caveats_of(roles.labels, found.classes, facts.groups)),
    )


def frozen_media(
    root: Path,
    found: FoundMedia,
    name: str,
    layout: str,
    options: dict[str, str],
    frames: int | None,
    leave_out: bool,
    limits: InputLimits | None,
    watch: Watch | None,
) -> FrozenManifest:
    """Return what pins a dataset of images or videos. Raises DatasetRefused."""
    listed = sorted(found.items, key=lambda item: item.path)
    check_utf_8(item.path for item in listed)
    _refuse_twice([item.path for item in listed])
    _refuse_torn(listed)
    told = Found({}, (), ()) if found.kind == "image" else events_below(root, [item.path for item in listed])
    listed = [replace(item, events=told.of.get(item.path)) for item in listed]
    items: list[Item] = []
    wrong: dict[str, str] = {}
    asked = frames if found.kind == "video" else None
    facts = facts_of([item.path for item in listed], root, found.kind, asked, limits or InputLimits())
    for done, (item, fact) in enumerate(zip(listed, facts, strict=True), 1):
        if fact.wrong is not None:
            wrong[item.path] = fact.wrong
        else:
            items.append(_item(item, fact))
        if watch is not None:
            watch(done, len(listed))
    if wrong and not leave_out:
        first = min(wrong)
        raise DatasetRefused(
            f"{len(wrong):,} of {len(listed):,} files cannot be used: {some(wrong)}. {first}: {wrong[first]}",
            mend="Correct them, or leave them out with --leave-out-unreadable.",
            files=sorted(wrong)[:MOST_NAMED],
        )
    if not items:
        raise DatasetRefused("No file is left.", mend="See the layout's page for what is expected where.")
    labels = np.array([item.label for item in items], np.int8)
    caveats = [*found.caveats, *told.caveats, *caveats_of(labels, found.classes, len({item.group for item in items}))]
    caveats += contradictory(items)
    if wrong:
        caveats.append(f"{len(wrong):,} files could not be used and are left out: {some(wrong)}.")
    return FrozenManifest(
        name=name,
        layout=layout,
        kind=found.kind,
        classes=found.classes,
        options=options | ({} if asked is None else {"frames-of-a-video": str(asked)}),
        files=digests_of(root, (*found.read, *told.read)),
        items=tuple(items),
        caveats=tuple(caveats),
    )


def _item(found: FoundItem, fact: Fact) -> Item:
    return Item(
        id=found.path,
        label=found.label,
        sha256=fact.sha256,
        group=found.group,
        split=found.split,
        subgroups=dict(found.subgroups),
        amount=found.amount,
        at=found.at,
        frames=found.frames or fact.frames,
        crop=found.crop,
        video=found.video,
        events=None if found.events is None else dict(found.events),
    )


def _refuse_torn(items: Sequence[FoundItem]) -> None:
    """Refuse a video whose frames stand in two groups."""
    of: dict[str, FoundItem] = {}
    for item in items:
        if item.video is None:
            continue
        first = of.setdefault(item.video, item)
        if first.group != item.group:
            raise DatasetRefused(
                f"The video {item.video} is torn: {first.path} and {item.path} are of two groups.",
                mend="Give the frames of a video one group.",
            )


def _refuse_twice(paths: Sequence[str]) -> None:
    twice = sorted({left for left, right in pairwise(paths) if left == right})
    if twice:
        raise DatasetRefused(f"{len(twice):,} files are named twice: {some(twice)}.", mend="Name each once.")
