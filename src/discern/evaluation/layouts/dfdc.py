"""Deepfake Detection Challenge (Dolhansky et al., 2020): folders with a `metadata.json` each.

`{"a.mp4": {"label": "FAKE", "split": "train", "original": "b.mp4"}}`, or `is_fake` 0 and 1 in the published test set.
The group is the original: a fake and what it was made from stand together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from discern.core.errors import DatasetRefused
from discern.evaluation.layouts.reading import below_root, check_options, files_below, nothing_found, records_of
from discern.evaluation.types import Label
from discern.evaluation.types_datasets import FoundItem, FoundMedia

OPTIONS: Mapping[str, str] = {}
_LIST = "metadata.json"
_LABELS: Mapping[Any, Label] = {"REAL": 0, "FAKE": 1, 0: 0, 1: 1}
_CAVEAT = "The actors are not published: videos are grouped by the original, and one person may be in several groups."


def find(root: Path, options: Mapping[str, str]) -> FoundMedia:
    """Return the videos that the lists name. Raises DatasetRefused."""
    check_options("dfdc", OPTIONS, options)
    lists = [path for path in files_below(root, frozenset({".json"})) if PurePosixPath(path).name == _LIST]
    if not lists:
        raise nothing_found("dfdc", f"folders of videos with a {_LIST} each")
    items = [
        _item(PurePosixPath(path).parent, name, facts, path)
        for path in lists
        for name, facts in records_of(root, path).items()
    ]
    return FoundMedia("video", ("real", "fake"), items, tuple(lists), (_CAVEAT,))


def _item(folder: PurePosixPath, name: str, facts: Mapping[str, Any], where: str) -> FoundItem:
    said = facts.get("label", facts.get("is_fake"))
    label = _LABELS.get(said) if isinstance(said, str | int) else None
    if label is None:
        raise DatasetRefused(f"{where}: {name[:100]} has no label.", mend="Take the dataset's own file.")
    original = facts.get("original")
    group = original if label and isinstance(original, str) and original else name
    augmented = facts.get("augmentations")
    subgroups = {"part": folder.name} if folder.name else {}
    if isinstance(augmented, list):
        subgroups["augmented"] = "yes" if augmented else "no"
    split = facts.get("split")
    path = (folder / below_root(name, where)).as_posix()
    return FoundItem(path, label, group, split if isinstance(split, str) and split else None, subgroups)
