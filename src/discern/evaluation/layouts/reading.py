"""What layouts share: options, lists in JSON and CSV, files below a folder, and what belongs to one group."""

from __future__ import annotations

import csv
import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from discern.core.errors import DatasetRefused

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif"})
VIDEOS = frozenset({".mp4", ".mov", ".m4v", ".avi", ".webm"})
_SHOWN = 5
_MOST_LIST_BYTES = 500_000_000


def check_options(layout: str, known: Mapping[str, str], options: Mapping[str, str]) -> None:
    """Raise DatasetRefused for an option that the layout does not have."""
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise DatasetRefused(
            f"The layout {layout} has no option {', '.join(unknown)}.",
            mend=f"It has: {', '.join(known) or 'none'}.",
        )


def choice(options: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    """Return the value of an option that is one of a few, the first where it is left out. Raises DatasetRefused."""
    value = options.get(name, allowed[0])
    if value not in allowed:
        raise DatasetRefused(f"The option {name} is {value[:100]!r}.", mend=f"It is one of: {', '.join(allowed)}.")
    return value


def words(value: str | None) -> tuple[str, ...]:
    """Return the words of a list separated by commas."""
    return tuple(word.strip() for word in (value or "").split(",") if word.strip())


def files_below(root: Path, suffixes: frozenset[str] | None = None) -> list[str]:
    """Return the files below a folder by their paths below it, sorted, hidden ones left out. Raises DatasetRefused.

    `suffixes` are in small letters; without them every file is taken. Links to folders are not followed.
    """
    faults: list[OSError] = []
    found: list[str] = []
    for folder, folders, names in os.walk(root, onerror=faults.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(folder).relative_to(root)
        found += [
            (below / name).as_posix()
            for name in names
            if not name.startswith(".") and (suffixes is None or PurePosixPath(name).suffix.lower() in suffixes)
        ]
    if faults:
        raise DatasetRefused(
            f"{faults[0].filename} cannot be listed: {faults[0].strerror}.", mend="See the path and its permissions."
        )
    return sorted(found)


def some(names: Iterable[str]) -> str:
    """Return a few names for people, and how many more there are."""
    listed = sorted(names)
    shown = ", ".join(listed[:_SHOWN])
    return f"{shown} and {len(listed) - _SHOWN:,} more" if len(listed) > _SHOWN else shown


def json_of(root: Path, path: str) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return what a JSON file below the root holds. Raises DatasetRefused."""
    try:
        if (root / path).stat().st_size > _MOST_LIST_BYTES:
            raise DatasetRefused(f"{path} has more than {_MOST_LIST_BYTES:,} bytes.", mend="See that it is the list.")
        return msgspec.json.decode((root / path).read_bytes())
    except OSError as error:
        raise DatasetRefused(f"{path} cannot be read: {error.strerror}.", mend="See the layout's page.") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise DatasetRefused(f"{path} is not JSON: {error}.", mend="See that the file is whole.") from error


def records_of(root: Path, path: str) -> Mapping[str, Mapping[str, Any]]:
    """Return a JSON object of objects. Raises DatasetRefused."""
    found = json_of(root, path)
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise DatasetRefused(f"{path} is not a JSON object of objects.", mend="See that it is the dataset's own file.")
    return found


def csv_rows(root: Path, path: str, needed: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file, by its header. Raises DatasetRefused, also where a needed column misses."""
    try:
        with (root / path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            check_once(path, reader.fieldnames or ())
            missing = sorted(set(needed) - set(reader.fieldnames or ()))
            if missing:
                raise DatasetRefused(
                    f"{path} has no column {', '.join(missing)}.", mend=f"It has: {some(reader.fieldnames or ())}."
                )
            for row in reader:
                if None in row or None in row.values():
                    raise DatasetRefused(
                        f"{path}, line {reader.line_num}: it has other cells than the header.", mend="Correct it."
                    )
                yield row
    except OSError as error:
        raise DatasetRefused(f"{path} cannot be read: {error.strerror}.", mend="See the path.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetRefused(f"{path} is not CSV in UTF-8: {error}.", mend="Convert it.") from error


def check_once(path: str, names: Sequence[str]) -> None:
    """Raise DatasetRefused where a table has two columns of one name: which of them is meant cannot be told."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DatasetRefused(f"{path} has the column {some(twice)} twice.", mend="Rename one of the two.")


def check_utf_8(names: Iterable[str]) -> None:
    """Raise DatasetRefused for names of files that no manifest can hold."""
    wrong = []
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            wrong.append(os.fsencode(name).decode(errors="backslashreplace"))
    if wrong:
        raise DatasetRefused(f"{len(wrong):,} names are not UTF-8: {some(wrong)}.", mend="Rename what has them.")


def below_root(path: str, where: str) -> str:
    """Return a path as it stands in a list, made plain. Raises DatasetRefused for one that leads out of the root."""
    plain = PurePosixPath(path.replace("\\", "/").strip())
    if plain.is_absolute() or ".." in plain.parts or not plain.parts:
        raise DatasetRefused(f"{where} names {path[:200]!r}, which is not below the root.", mend="Correct the list.")
    return plain.as_posix()


def nothing_found(layout: str, expected: str) -> DatasetRefused:
    """Return the error for a folder that does not hold this layout."""
    return DatasetRefused(f"There is nothing of the layout {layout} here.", mend=f"Expected is: {expected}.")


class Groups:
    """What belongs together by being named together: each name leads to one member of its group, the smallest."""

    def __init__(self) -> None:
        self._leader: dict[Hashable, Hashable] = {}

    def join(self, first: str, second: str) -> None:
        """Put two names into one group."""
        left, right = self.of(first), self.of(second)
        if left != right:
            self._leader[max(left, right)] = min(left, right)

    def of(self, name: str) -> str:
        """Return the name that stands for the group of `name`."""
        while (leader := self._leader.get(name, name)) != name:
            name = str(leader)
        return name
