"""Celeb-DF-v2 (Li et al., CVPR 2020): `Celeb-real`, `YouTube-real`, `Celeb-synthesis`, `List_of_testing_videos.txt`.

In that list 1 means real and 0 fake, the other way round than here. A fake `id0_id1_0000.mp4` shows the face of id1 in
a video of id0. What is not in the list is for training.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from discern.core.errors import DatasetRefused
from discern.evaluation.layouts.reading import VIDEOS, check_options, files_below, nothing_found, some
from discern.evaluation.types import Label
from discern.evaluation.types_datasets import FoundItem, FoundMedia

OPTIONS: Mapping[str, str] = {}
_LIST = "List_of_testing_videos.txt"
_LABELS: Mapping[str, Label] = {"celeb-real": 0, "youtube-real": 0, "celeb-synthesis": 1}
_PERSON = re.compile(r"(id[0-9]+)_")
_CAVEAT = (
    "Videos are grouped by the person who is filmed; a fake shows a second person's face, and the official list of "
    "testing videos shares people with the rest."
)


def find(root: Path, options: Mapping[str, str]) -> FoundMedia:
    """Return the videos. Raises DatasetRefused."""
    check_options("celeb-df-v2", OPTIONS, options)
    testing = _testing(root)
    items = []
    for path in files_below(root, VIDEOS):
        parts = PurePosixPath(path).parts
        label = _LABELS.get(parts[0].lower())
        if label is None:
            continue
        # Some copies have a folder `videos` in between; the list has not.
        key = f"{parts[0]}/{parts[-1]}".lower()
        said = testing.pop(key, None)
        if said is not None and said != label:
            raise DatasetRefused(f"{_LIST} calls {path} otherwise than its folder.", mend="Take the official list.")
        person = _PERSON.match(parts[-1])
        group = person[1] if person else f"{parts[0]} {PurePosixPath(path).stem}"
        items.append(FoundItem(path, label, group, "train" if said is None else "test", {"source": parts[0]}))
    if not items:
        raise nothing_found("celeb-df-v2", "Celeb-real, YouTube-real and Celeb-synthesis")
    if testing:
        raise DatasetRefused(
            f"{_LIST} names {len(testing):,} videos that are not here: {some(testing)}.", mend="Complete the copy."
        )
    return FoundMedia("video", ("real", "fake"), items, (_LIST,), (_CAVEAT,))


def _testing(root: Path) -> dict[str, Label]:
    try:
        lines = (root / _LIST).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetRefused(f"{_LIST} cannot be read: {error}.", mend="It lies beside the folders.") from error
    found: dict[str, Label] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        real, _, path = line.strip().partition(" ")
        if real not in {"0", "1"} or "/" not in path:
            raise DatasetRefused(f"{_LIST}, line {number}: {line[:100]!r}.", mend="Take the official list.")
        found[path.strip().lower()] = 0 if real == "1" else 1
    return found
