"""FaceForensics++ (Rössler et al., ICCV 2019), as its download script lays it out.

`original_sequences/{youtube,actors}/{raw,c23,c40}/videos/*.mp4` are real, `manipulated_sequences/METHOD/...` fake. A
fake `000_003.mp4` shows the face of 003 in the video 000; `train.json`, `val.json` and `test.json` list such pairs,
below the root or in `splits`. Of DeepFakeDetection a fake is `ACTOR_ACTOR__SCENE__CODE.mp4`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from discern.core.errors import DatasetRefused
from discern.evaluation.layouts.reading import (
    IMAGES,
    VIDEOS,
    Groups,
    check_options,
    choice,
    files_below,
    json_of,
    nothing_found,
    words,
)
from discern.evaluation.types import Label
from discern.evaluation.types_datasets import FoundItem, FoundMedia

OPTIONS: Mapping[str, str] = {
    "compression": "c0 (raw), c23 or c40, separated by commas; left out: all that are there.",
    "methods": "Folders of manipulated_sequences, separated by commas; left out: all that are there.",
    "media": "videos, or frames: the pictures below `frames` or `images`, a folder a video.",
}
_SPLITS = ("train", "val", "test")
_PAIR = re.compile(r"([0-9]{3})(?:_([0-9]{3}))?")
_ACTOR = re.compile(r"([0-9]{2})(?:_[0-9]{2})?__")
_FOLDERS = {"videos": ("videos",), "frames": ("frames", "images")}
_COMPRESSIONS = {"raw": "c0", "c0": "c0", "c23": "c23", "c40": "c40"}


def find(root: Path, options: Mapping[str, str]) -> FoundMedia:
    """Return the sequences. Raises DatasetRefused."""
    check_options("faceforensics", OPTIONS, options)
    media = choice(options, "media", ("videos", "frames"))
    splits, groups, read = _official(root)
    wanted, methods = words(options.get("compression")), words(options.get("methods"))
    found: list[tuple[str, str, str, str]] = []
    for path in files_below(root, VIDEOS if media == "videos" else IMAGES):
        parts = PurePosixPath(path).parts
        if len(parts) < 5 + (media == "frames") or parts[3] not in _FOLDERS[media]:
            continue
        side, source, compression = parts[0], parts[1], _COMPRESSIONS.get(parts[2])
        if side not in {"original_sequences", "manipulated_sequences"} or compression is None:
            continue
        fake = side == "manipulated_sequences"
        if (wanted and compression not in wanted) or (fake and methods and source not in methods):
            continue
        video = PurePosixPath(parts[4]).stem if media == "videos" else parts[4]
        groups.join(*(pair_of(video) or (video, video)))
        found.append((path, video, source if fake else f"original {source}", compression))
    if not found:
        raise nothing_found("faceforensics", "original_sequences and manipulated_sequences with c23 or other folders")
    items = [_item(*one, splits, groups) for one in found]
    return FoundMedia("video" if media == "videos" else "image", ("real", "fake"), items, read, _caveats(items, read))


def pair_of(video: str) -> tuple[str, str] | None:
    """Return the two sequences that a name such as `000_003` or `000` stands for, None for other names."""
    match = _PAIR.fullmatch(video)
    return None if match is None else (match[1], match[2] or match[1])


def _official(root: Path) -> tuple[dict[str, str], Groups, tuple[str, ...]]:
    """Return the side of each sequence, which sequences are one pair, and the files that said so."""
    sides: dict[str, str] = {}
    groups = Groups()
    read: list[str] = []
    for split in _SPLITS:
        path = next((path for path in (f"{split}.json", f"splits/{split}.json") if (root / path).is_file()), None)
        if path is None:
            continue
        read.append(path)
        pairs = json_of(root, path)
        well_formed = isinstance(pairs, list) and all(
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair) for pair in pairs
        )
        if not well_formed:
            raise DatasetRefused(f"{path} is not a list of pairs of sequences.", mend="Take the official file.")
        for first, second in pairs:
            groups.join(first, second)
            for sequence in (first, second):
                if sides.setdefault(sequence, split) != split:
                    raise DatasetRefused(f"{sequence} is on two sides of the split.", mend="Take the official files.")
    if read and len(read) < len(_SPLITS):
        raise DatasetRefused(f"Of the official splits only {', '.join(read)} is there.", mend="Put all three there.")
    return sides, groups, tuple(read)


def _item(path: str, video: str, method: str, compression: str, sides: Mapping[str, str], groups: Groups) -> FoundItem:
    group, split = _place(video, sides, groups, path)
    label: Label = 0 if method.startswith("original ") else 1
    return FoundItem(path, label, group, split, {"method": method, "compression": compression})


def _place(video: str, sides: Mapping[str, str], groups: Groups, path: str) -> tuple[str, str | None]:
    pair = pair_of(video)
    if pair is None:
        actor = _ACTOR.match(video)
        if actor is None:
            raise DatasetRefused(f"{path} has no name of this dataset.", mend="Put other files elsewhere.")
        return f"actor {actor[1]}", None
    if sides.get(pair[0]) != sides.get(pair[1]):
        raise DatasetRefused(f"{path} mixes sequences of two sides of the split.", mend="Take the official files.")
    return f"sequence {groups.of(pair[0])}", sides.get(pair[0])


def _caveats(items: list[FoundItem], read: tuple[str, ...]) -> tuple[str, ...]:
    caveats = []
    if not read:
        caveats.append("The official splits are not there: groups come from the names of the fakes alone.")
    outside = sum(item.split is None for item in items)
    if read and outside:
        caveats.append(f"{outside:,} sequences are in no official split.")
    if any(item.group.startswith("actor ") for item in items):
        caveats.append("Sequences of actors are grouped by the actor who is filmed; a fake shows a second one's face.")
    return tuple(caveats)
