"""When what happened in the clips of a dataset: `events.csv` beside them, in any layout.

- Columns `file` (below the folder of the CSV file), `name`, `start` and `seconds`; a row without start and seconds says
  that the event was looked for in that file and is not there.
- What a file names was looked for in every clip in its folder and below: a clip without a row has no such event.
- Events of one kind do not overlap in a clip.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from discern.core.errors import DatasetRefused
from discern.evaluation.layouts.reading import below_root, csv_rows, files_below
from discern.evaluation.types import Spans

NAME = "events.csv"
_COLUMNS = ("file", "name", "start", "seconds")
_LONGEST_NAME = 64
_CORRECT = "Correct the file, or name it otherwise where it is not meant."


class Found(NamedTuple):
    """The events of each clip by kind, the files that say so, and sentences for the report."""

    of: dict[str, dict[str, Spans]]
    read: tuple[str, ...]
    caveats: tuple[str, ...]


def events_below(root: Path, clips: Sequence[str]) -> Found:
    """Return the events that every `events.csv` below the root tells of `clips`. Raises DatasetRefused."""
    files = [path for path in files_below(root, frozenset({".csv"})) if PurePosixPath(path).name == NAME]
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    others: set[str] = set()
    for path in files:
        folder = PurePosixPath(path).parent
        beside = [clip for clip in clips if folder == PurePosixPath() or folder in PurePosixPath(clip).parents]
        rows = [_row(path, number, row) for number, row in enumerate(csv_rows(root, path, _COLUMNS), 2)]
        for clip in beside:
            for name in {name for _, name, _ in rows}:
                found.setdefault(clip, {}).setdefault(name, [])
        known = frozenset(beside)
        for file, name, span in rows:
            clip = (folder / file).as_posix()
            if clip not in known:
                if not (root / clip).is_file():
                    raise DatasetRefused(f"{path} names {file}, which is not there.", mend="Correct the list.")
                others.add(clip)
            elif span is not None:
                found[clip][name].append(span)
    caveats = [f"{len(others):,} files that events are named for are not in the dataset."] if others else []
    of = {clip: {name: _in_order(clip, name, spans) for name, spans in kinds.items()} for clip, kinds in found.items()}
    return Found(of, tuple(files), tuple(caveats))


def _row(path: str, line: int, row: Mapping[str, str]) -> tuple[str, str, tuple[float, float] | None]:
    where = f"{path}, line {line}"
    name, start, seconds = (row[column].strip() for column in _COLUMNS[1:])
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise DatasetRefused(f"{where}: the event has no name, or a strange one.", mend=_CORRECT)
    file = below_root(row["file"], where)
    if not start and not seconds:
        return file, name, None
    try:
        span = float(start), float(seconds)
    except ValueError as error:
        raise DatasetRefused(f"{where}: {error}.", mend="Start and seconds are numbers, or both empty.") from error
    if not all(map(math.isfinite, span)) or span[0] < 0 or span[1] <= 0:
        raise DatasetRefused(
            f"{where}: it starts at {start} and lasts {seconds} seconds.", mend="Start from 0 on, and last above 0."
        )
    return file, name, span


def _in_order(clip: str, name: str, spans: list[tuple[float, float]]) -> Spans:
    ordered = sorted(spans)
    for (start, seconds), (following, _) in pairwise(ordered):
        if following < start + seconds:
            raise DatasetRefused(
                f"{clip}: two events {name} overlap, from {start:g} and from {following:g} seconds.", mend=_CORRECT
            )
    return tuple(ordered)
