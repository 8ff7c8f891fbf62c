"""One CSV or Parquet file: a column of paths to pictures or clips, or records."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from discern.core.errors import DatasetRefused
from discern.evaluation.layouts.folder import GROUP_IS_THE_FILE, GROUP_IS_THE_VIDEO
from discern.evaluation.layouts.reading import VIDEOS, below_root, check_options, csv_rows, files_below, words
from discern.evaluation.types import ItemKind
from discern.evaluation.types_datasets import Columns, Comparison, Condition, Found, FoundItem, FoundMedia, FoundTable

if TYPE_CHECKING:
    from collections.abc import Iterable

OPTIONS: Mapping[str, str] = {
    "file": "The table, where the folder holds several.",
    "label": "The column of the label; label where left out.",
    "positive": "Values of the positive class, separated by commas; 1 where left out.",
    "negative": "Values of the negative class; 0 where left out.",
    "path": "The column of paths below the folder; with it the items are files, without it they are the rows.",
    "group": "The column of the group: what must not stand on both sides of a split.",
    "split": "The column of the side.",
    "amount": "The column of what is at stake.",
    "at": "The column of the time, ISO 8601.",
    "at-unit": "iso, or seconds since an unstated start.",
    "card": "The column of what is blocked together.",
    "id": "A column that names the row.",
    "subgroups": "Columns to break tables down by, separated by commas.",
    "withheld": "Columns that no detector may be given, beside the label, the split and the id.",
    "where": "Conditions on rows, separated by `;`, such as day>=2018-08-08;currency==EUR.",
    "video": "With path: the column that names the video which a picture is a frame of.",
    "frames": "With path: the column of positions of frames, separated by spaces.",
    "crop": "With path: the column of the box left top width height, separated by spaces.",
}
NO_GROUPS = (
    "No groups are known: each row is a group of its own, so what belongs together may stand on both sides of a split, "
    "and intervals may be too narrow."
)
_COMPARISONS: tuple[Comparison, ...] = ("==", "!=", ">=", "<=", ">", "<")


def find(root: Path, options: Mapping[str, str]) -> Found:
    """Return what a table says. Raises DatasetRefused."""
    check_options("table", OPTIONS, options)
    path = _table(root, options.get("file"))
    positive, negative = words(options.get("positive", "1")), words(options.get("negative", "0"))
    if not positive or not negative or set(positive) & set(negative):
        raise DatasetRefused("The classes are empty or the same.", mend="Say positive and negative.")
    if "path" in options:
        return _media(root, path, options, positive, negative)
    for name in ("frames", "crop", "video"):
        if name in options:
            raise DatasetRefused(f"The option {name} is for files.", mend="Give the option path too.")
    columns = Columns(
        label=options.get("label", "label"),
        positive=positive,
        negative=negative,
        group=options.get("group"),
        amount=options.get("amount"),
        at=options.get("at"),
        at_unit="seconds" if options.get("at-unit") == "seconds" else "iso",
        card=options.get("card"),
        split=options.get("split"),
        identifier=options.get("id"),
        subgroups=words(options.get("subgroups")),
        withheld=words(options.get("withheld")),
    )
    caveats = () if columns.group else (NO_GROUPS,)
    conditions = conditions_of(options.get("where", ""))
    return FoundTable((", ".join(negative), ", ".join(positive)), (path,), columns, conditions, caveats=caveats)


def conditions_of(text: str) -> tuple[Condition, ...]:
    """Return the conditions on rows that a text says. Raises DatasetRefused."""
    found = []
    for part in (part.strip() for part in text.split(";")):
        if not part:
            continue
        match = re.fullmatch(r"\s*(.+?)\s*(==|!=|>=|<=|>|<)\s*(.+?)\s*", part)
        if match is None:
            raise DatasetRefused(f"{part[:100]!r} is no condition.", mend="Write COLUMN==VALUE, or with != >= <= > <.")
        comparison = next(one for one in _COMPARISONS if one == match[2])
        found.append(Condition(match[1], comparison, match[3]))
    return tuple(found)


def _table(root: Path, asked: str | None) -> str:
    if asked is not None:
        return below_root(asked, "The option file")
    tables = files_below(root, frozenset({".parquet", ".csv"}))
    if len(tables) != 1:
        raise DatasetRefused(
            f"There are {len(tables)} tables below {root.name}.", mend="Say which, with the option file."
        )
    return tables[0]


def _media(
    root: Path, path: str, options: Mapping[str, str], positive: tuple[str, ...], negative: tuple[str, ...]
) -> FoundMedia:
    unfit = sorted({"card", "id", "withheld", "where", "at-unit"} & set(options))
    if unfit:
        raise DatasetRefused(f"With path there is no option {', '.join(unfit)}.", mend="Leave it out.")
    used = ("path", "label", "group", "split", "amount", "at", "video", "frames", "crop")
    names = {name: options[name] for name in used if name in options}
    names.setdefault("label", "label")
    subgroups = words(options.get("subgroups"))
    items = [
        _item(path, number, row, names, subgroups, (positive, negative))
        for number, row in enumerate(_rows(root, path, [*names.values(), *subgroups]), 1)
    ]
    kinds: set[ItemKind] = {"video" if PurePosixPath(item.path).suffix.lower() in VIDEOS else "image" for item in items}
    if len(kinds) > 1:
        raise DatasetRefused(f"{path} names images and videos.", mend="A dataset is of one kind: make two tables.")
    without = GROUP_IS_THE_VIDEO if "video" in names else GROUP_IS_THE_FILE
    caveats = () if "group" in names else (without,)
    if "video" in names and "video" in kinds:
        raise DatasetRefused("The option video is for pictures, and the items are videos.", mend="Leave it out.")
    classes = (", ".join(negative), ", ".join(positive))
    return FoundMedia(kinds.pop() if kinds else "image", classes, items, (path,), caveats)


def _rows(root: Path, path: str, columns: list[str]) -> Iterable[Mapping[str, str]]:
    if path.lower().endswith(".csv"):
        return csv_rows(root, path, columns)
    from discern.evaluation.datasets_tables import text_rows  # noqa: PLC0415 - needs an extra

    return text_rows(root, path, columns)


def _item(
    path: str,
    number: int,
    row: Mapping[str, str],
    names: Mapping[str, str],
    subgroups: tuple[str, ...],
    classes: tuple[tuple[str, ...], tuple[str, ...]],
) -> FoundItem:
    where = f"{path}, row {number}"
    label = row[names["label"]]
    if label not in (*classes[0], *classes[1]):
        raise DatasetRefused(
            f"{where}: the label is {label[:100]!r}.", mend="Say with positive and negative what the labels are."
        )
    file = below_root(row[names["path"]], where)
    video = row[names["video"]] if "video" in names else None
    if video == "":
        raise DatasetRefused(f"{where}: the video is empty.", mend="Name one for each row, or leave the option out.")
    group = row[names["group"]] if "group" in names else video or file
    if not group:
        raise DatasetRefused(f"{where}: the group is empty.", mend="Give every row a group, or leave the option out.")
    try:
        frames = tuple(int(word) for word in row[names["frames"]].split()) if "frames" in names else ()
        box = [int(word) for word in row[names["crop"]].split()] if "crop" in names else []
        amount = float(row[names["amount"]]) if "amount" in names else None
    except ValueError as error:
        raise DatasetRefused(f"{where}: {error}.", mend="Frames, crops and amounts are numbers.") from error
    if amount is not None and not math.isfinite(amount):
        raise DatasetRefused(f"{where}: the amount is not finite.", mend="Correct it.")
    if len(box) not in {0, 4} or (box and min(box[2:]) <= 0):
        raise DatasetRefused(
            f"{where}: a crop has four numbers, the last two above zero.", mend="Write left top width height."
        )
    if min(frames, default=0) < 0:
        raise DatasetRefused(f"{where}: a frame before the first is named.", mend="Count frames from 0.")
    return FoundItem(
        file,
        1 if label in classes[0] else 0,
        group,
        (row[names["split"]] or None) if "split" in names else None,
        {name: row[name] for name in subgroups},
        frames or None,
        (box[0], box[1], box[2], box[3]) if box else None,
        amount,
        row[names["at"]] if "at" in names else None,
        video,
    )
