"""The nouns of datasets: what a layout finds on disk, the frozen manifest, what a split and a leakage check say.

- A manifest holds no path that is not below the dataset's root, no time and no name of a machine: the same files under
  the same options make the same bytes, and their SHA-256 names the dataset.
- Media stand in it item by item. Of a table of records it holds the digest of the file and what the columns are for;
  the rows stay where they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import msgspec

from discern.evaluation.types import Item, ItemKind, Label, Spans

FORMAT = 1
TimeUnit = Literal["iso", "seconds"]
Comparison = Literal["==", "!=", ">=", "<=", ">", "<"]
FindingKind = Literal["same_content", "same_row", "near_duplicate", "same_group", "contradicting_labels"]


class FileDigest(msgspec.Struct, frozen=True):
    """A file by its path below the root: its SHA-256 and its size in bytes."""

    path: str
    sha256: str
    bytes: int


class Condition(msgspec.Struct, frozen=True):
    """Rows are taken where the `column` compares so with `value`: as numbers, times or text, as the column is."""

    column: str
    comparison: Comparison
    value: str


class Columns(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the columns of a table are for.

    `label` holds `positive` or `negative` values; `group` what must not stand on both sides of a split, None where
    each row stands for itself; `amount` what is at stake; `at` the time, ISO 8601 or seconds since an unstated start;
    `card` what is blocked together; `split` the dataset's own sides. A detector may be given every column but the
    label, the split, the identifier and what is `withheld`, such as a column that is known of one class only.
    """

    label: str
    positive: tuple[str, ...] = ("1",)
    negative: tuple[str, ...] = ("0",)
    group: str | None = None
    amount: str | None = None
    at: str | None = None
    at_unit: TimeUnit = "iso"
    card: str | None = None
    split: str | None = None
    identifier: str | None = None
    subgroups: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()


class Join(msgspec.Struct, frozen=True):
    """A second table: its row with the same value in column `on` belongs to a row; without one they miss."""

    path: str
    on: str


class SplitByGroup(msgspec.Struct, frozen=True, tag="group"):
    """Every group goes to one side, by the hash of its name with the seed; `shares` of the items for each side."""

    seed: int
    shares: dict[str, float]


class SplitByTime(msgspec.Struct, frozen=True, tag="time"):
    """A side is a stretch of days, the first and the last one included; days between the stretches are on no side.

    `delay_days` is how long it takes until a label is known: a stretch begins no sooner after the one before.
    """

    periods: dict[str, tuple[str, str]]
    delay_days: int = 0


SplitRule = SplitByGroup | SplitByTime


class TableFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Records: the files that hold them, one after the other, and how they are read.

    `rows` are in the files, `kept` meet every one of the `conditions`, `positives` of these are of the positive class,
    in `groups` groups.
    """

    paths: tuple[str, ...]
    columns: Columns
    rows: int
    kept: int
    positives: int
    groups: int
    conditions: tuple[Condition, ...] = ()
    join: Join | None = None


class FrozenManifest(msgspec.Struct, frozen=True, omit_defaults=True, dict=True):
    """A dataset, written once and pinned by the digest of its bytes.

    `classes` are the names of the negative and the positive class. `files` are what the layout read beside the items:
    lists of splits, tables, archives. `items` are sorted by their id. `split_rule` says how the sides were made where
    they are not the dataset's own. `caveats` go into every report. Where items may not be shown, no report holds
    pictures of them.
    """

    name: str
    layout: str
    kind: ItemKind
    classes: tuple[str, str]
    options: dict[str, str] = {}
    files: tuple[FileDigest, ...] = ()
    items: tuple[Item, ...] = ()
    table: TableFacts | None = None
    split_rule: SplitRule | None = None
    caveats: tuple[str, ...] = ()
    may_be_shown: bool = True
    format: int = FORMAT

    @property
    def encoded(self) -> bytes:
        """The canonical JSON: sorted keys, no spaces, a newline at the end."""
        return msgspec.json.encode(self, order="sorted") + b"\n"

    @cached_property
    def sha256(self) -> str:
        """The digest that names the dataset in every result."""
        return hashlib.sha256(self.encoded).hexdigest()


@dataclass(frozen=True, slots=True)
class FoundItem:
    """A labelled file as a layout finds it: `path` below the root, `archive.tar!member` inside an archive.

    `video` and `events` are those of `Item`.
    """

    path: str
    label: Label
    group: str
    split: str | None = None
    subgroups: Mapping[str, str] = field(default_factory=dict)
    frames: tuple[int, ...] | None = None
    crop: tuple[int, int, int, int] | None = None
    amount: float | None = None
    at: str | None = None
    video: str | None = None
    events: Mapping[str, Spans] | None = None


@dataclass(frozen=True, slots=True)
class FoundMedia:
    """What a layout finds where the items are files. `read` are the files that said so: lists, tables, archives."""

    kind: ItemKind
    classes: tuple[str, str]
    items: list[FoundItem]
    read: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundTable:
    """What a layout finds where the items are rows: the files, one after the other, and what their columns are for."""

    classes: tuple[str, str]
    paths: tuple[str, ...]
    columns: Columns
    conditions: tuple[Condition, ...] = ()
    join: Join | None = None
    caveats: tuple[str, ...] = ()


Found = FoundMedia | FoundTable


class Change(msgspec.Struct, frozen=True):
    """A file that is not what was frozen: `missing`, `changed`, or `unreadable`."""

    path: str
    what: Literal["missing", "changed", "unreadable"]


class Finding(msgspec.Struct, frozen=True):
    """Something that two sides, or two items, should not share.

    `count` pairs or values; `examples` names a few. `leak` tells whether it breaks what the sides are for;
    without, it is a reservation that belongs beside the figures.
    """

    kind: FindingKind
    sides: tuple[str, str]
    count: int
    examples: tuple[tuple[str, str], ...]
    leak: bool
    says: str


class Leakage(msgspec.Struct, frozen=True):
    """What the checks between the sides found. `checked` names what was looked for, `not_checked` what was not and why.

    `unreadable` names items whose pictures could not be decoded, with the reason.
    """

    manifests: tuple[str, ...]
    sides: tuple[str, ...]
    checked: tuple[str, ...]
    not_checked: dict[str, str]
    findings: tuple[Finding, ...]
    unreadable: dict[str, str] = {}

    @property
    def leaks(self) -> bool:
        """Whether anything was found that breaks what the sides are for."""
        return any(finding.leak for finding in self.findings)
