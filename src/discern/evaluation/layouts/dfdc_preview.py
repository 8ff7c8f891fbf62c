"""Preview of the Deepfake Detection Challenge (Dolhansky et al., 2019): one `dataset.json` for all videos.

`{"method_A/1/1_A/2_1_A_0.mp4": {"label": "fake", "set": "train", "target_id": 1, "swapped_id": 2, ...}}`.
People who were swapped with each other are one group.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from discern.core.errors import DatasetRefused
from discern.evaluation.layouts.reading import Groups, below_root, check_options, records_of
from discern.evaluation.types import Label
from discern.evaluation.types_datasets import FoundItem, FoundMedia

OPTIONS: Mapping[str, str] = {}
_LIST = "dataset.json"
_LABELS: Mapping[str, Label] = {"real": 0, "fake": 1}


def find(root: Path, options: Mapping[str, str]) -> FoundMedia:
    """Return the videos that the list names. Raises DatasetRefused."""
    check_options("dfdc-preview", OPTIONS, options)
    videos = records_of(root, _LIST)
    people = Groups()
    for path, facts in videos.items():
        if facts.get("target_id") is None:
            raise DatasetRefused(f"{_LIST} names no person for {path[:200]}.", mend="Take the dataset's own file.")
        if facts.get("swapped_id") is not None:
            people.join(str(facts["target_id"]), str(facts["swapped_id"]))
    items = [_item(path, facts, people) for path, facts in videos.items()]
    return FoundMedia("video", ("real", "fake"), items, (_LIST,))


def _item(path: str, facts: Mapping[str, Any], people: Groups) -> FoundItem:
    label = _LABELS.get(str(facts.get("label")))
    if label is None:
        raise DatasetRefused(f"{_LIST} gives {path[:200]} no label.", mend="Take the dataset's own file.")
    plain = below_root(path, _LIST)
    subgroups = {"method": PurePosixPath(plain).parts[0] if label else "original"}
    augmentations = facts.get("augmentations")
    if isinstance(augmentations, list):
        subgroups["augmentation"] = ", ".join(str(one) for one in augmentations) or "none"
    side = facts.get("set")
    group = f"person {people.of(str(facts['target_id']))}"
    return FoundItem(plain, label, group, side if isinstance(side, str) else None, subgroups)
