"""Files in folders: `CLASS/...`, `SPLIT/CLASS/...`, or whatever the option `levels` says the folders are.

- Which class is the positive one is said, never guessed.
- Without groups each file is a group of its own, and the manifest says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from discern.core.errors import DatasetRefused
from discern.evaluation.layouts.reading import (
    IMAGES,
    VIDEOS,
    below_root,
    check_options,
    choice,
    csv_rows,
    files_below,
    nothing_found,
    some,
    words,
)
from discern.evaluation.types import ItemKind
from discern.evaluation.types_datasets import FoundItem, FoundMedia

OPTIONS: Mapping[str, str] = {
    "positive": "The folders of the positive class, separated by commas. Needed.",
    "negative": "The folders of the negative class; left out: every other one.",
    "levels": "What the folders are, from the root on: class, split, group, video (of the frames in it), a name for a "
    "subgroup, or - for nothing.",
    "media": "image or video, where both lie there.",
    "groups": "A CSV file below the root that names the group of each file.",
    "group": "The column of that file which holds the group.",
    "group-pattern": "Instead: a regular expression over the path whose first group is the group.",
}
GROUP_IS_THE_FILE = (
    "No groups are known: each file is a group of its own, so the same person, scene or video may stand on both sides "
    "of a split, and intervals may be too narrow."
)
GROUP_IS_THE_VIDEO = (
    "No groups are known: the frames of each video are a group of their own, so the same person or scene may stand on "
    "both sides of a split, and intervals may be too narrow."
)
_SPLITS = frozenset({"train", "training", "valid", "validation", "val", "dev", "test", "testing", "holdout"})


def find(root: Path, options: Mapping[str, str]) -> FoundMedia:
    """Return the files below a folder, labelled by their folders. Raises DatasetRefused."""
    check_options("folder", OPTIONS, options)
    kind, paths = _media(root, options.get("media"))
    levels = _levels(paths, options.get("levels"))
    table = _groups_of_table(root, options)
    pattern = _pattern(options.get("group-pattern"))
    labelled = [_Placed(path, levels) for path in paths if len(PurePosixPath(path).parts) > len(levels)]
    beside = len(paths) - len(labelled)
    positive, negative = _classes({one.of["class"] for one in labelled}, options)
    items = [
        FoundItem(
            one.path,
            1 if one.of["class"] in positive else 0,
            _group(one, table, pattern),
            one.of.get("split"),
            one.subgroups(several_classes=len(positive) + len(negative) > 2),
            video=one.video if kind == "image" else None,
        )
        for one in labelled
    ]
    without = GROUP_IS_THE_VIDEO if "video" in levels and kind == "image" else GROUP_IS_THE_FILE
    caveats = [] if table or pattern or "group" in levels else [without]
    if beside:
        caveats.append(f"{beside:,} files lie above the folders of the classes and are left out.")
    read = (options["groups"],) if "groups" in options else ()
    return FoundMedia(kind, (", ".join(sorted(negative)), ", ".join(sorted(positive))), items, read, tuple(caveats))


class _Placed:
    """A file and what its folders say of it."""

    def __init__(self, path: str, levels: tuple[str, ...]) -> None:
        self.path = path
        parts = PurePosixPath(path).parts
        self.of = dict(zip(levels, parts, strict=False))
        # Videos of two classes or sides may have the same name.
        self.video = "/".join(parts[: levels.index("video") + 1]) if "video" in levels else None

    def subgroups(self, *, several_classes: bool) -> dict[str, str]:
        left_out = {"split", "group", "video", "-"} | (set() if several_classes else {"class"})
        return {level: name for level, name in self.of.items() if level not in left_out}


def _media(root: Path, asked: str | None) -> tuple[ItemKind, list[str]]:
    images, videos = files_below(root, IMAGES), files_below(root, VIDEOS)
    if asked is not None:
        choice({"media": asked}, "media", ("image", "video"))
    elif images and videos:
        raise DatasetRefused(
            f"There are {len(images):,} images and {len(videos):,} videos.",
            mend="A dataset is of one kind: say which, with the option media.",
        )
    if asked == "video" or (asked is None and videos):
        return "video", videos
    if not images:
        raise nothing_found("folder", "folders named for classes, with images or videos in them")
    return "image", images


def _levels(paths: list[str], asked: str | None) -> tuple[str, ...]:
    if asked is not None:
        levels = tuple(word.strip() for word in asked.split("/"))
        if levels.count("class") != 1 or len(set(levels) - {"-"}) != len([one for one in levels if one != "-"]):
            raise DatasetRefused(
                f"The option levels is {asked[:100]!r}.", mend="Name `class` once, such as split/source/class."
            )
        return levels
    first = {PurePosixPath(path).parts[0].lower() for path in paths}
    return ("split", "class") if first <= _SPLITS else ("class",)


def _classes(found: set[str], options: Mapping[str, str]) -> tuple[frozenset[str], frozenset[str]]:
    positive = frozenset(words(options.get("positive")))
    negative = frozenset(words(options.get("negative"))) or frozenset(found - positive)
    if not positive:
        raise DatasetRefused(
            f"The folders are {some(found)}, and which of them are the positive class is not said.",
            mend="Give the option positive: the folder of what the detector looks for.",
        )
    unknown = found - positive - negative
    if unknown or positive & negative:
        raise DatasetRefused(
            f"Folders of no class or of both: {some(unknown | (positive & negative))}.",
            mend="Name each folder once, as positive or as negative; levels says which folders are classes.",
        )
    if not positive & found:
        raise DatasetRefused(
            f"There is no folder {some(positive)}; the folders are {some(found)}.",
            mend="Correct positive, or say with levels which folders are classes.",
        )
    return positive, negative


def _pattern(expression: str | None) -> re.Pattern[str] | None:
    if expression is None:
        return None
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise DatasetRefused(f"group-pattern is no regular expression: {error}.", mend="Correct it.") from error
    if pattern.groups != 1:
        raise DatasetRefused("group-pattern needs one group in parentheses.", mend="Such as '/([0-9]+)_'.")
    return pattern


def _groups_of_table(root: Path, options: Mapping[str, str]) -> dict[str, str]:
    """Return the group of each path that the file of groups names: by `path`, by `class` and `file`, or by `file`."""
    if ("groups" in options) != ("group" in options):
        raise DatasetRefused("Of the options groups and group only one is given.", mend="Give the file and its column.")
    if "groups" not in options:
        return {}
    path, column = below_root(options["groups"], "The option groups"), options["group"]
    found: dict[str, str] = {}
    for row in csv_rows(root, path, [column]):
        if "path" in row:
            name = row["path"]
        elif "file" in row:
            name = f"{row['class']}/{row['file']}" if "class" in row else row["file"]
        else:
            raise DatasetRefused(f"{path} has no column path or file.", mend="Add one: the path below the root.")
        name = below_root(name, path)
        if not row[column] or found.setdefault(name, row[column]) != row[column]:
            raise DatasetRefused(f"{path} gives {name} no group, or two.", mend="Correct it.")
    return found


def _group(one: _Placed, table: Mapping[str, str], pattern: re.Pattern[str] | None) -> str:
    if table:
        group = table.get(one.path)
        if group is None:
            raise DatasetRefused(f"The file of groups does not name {one.path}.", mend="Add it.")
        return group
    if pattern is not None:
        match = pattern.search(one.path)
        if match is None or match[1] is None:
            raise DatasetRefused(f"group-pattern does not fit {one.path}.", mend="Correct it.")
        return match[1]
    return one.of.get("group", one.video or one.path)
