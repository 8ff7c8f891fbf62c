"""DF40 (Yan et al., NeurIPS 2024): frames of forty ways to forge, `METHOD/{ff,cdf}/frames/VIDEO/*.png` and others.

With `dataset_json` below the root the official lists say what is taken: `{METHOD: {LABEL: {SPLIT: {VIDEO: {"label":
"simswap_Fake", "frames": [...]}}}}}`, for some methods with a compression above the videos. The folders that the lists
begin their paths with differ from copy to copy, so a path is found by its end. Without lists the folders say it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from discern.core.errors import DatasetRefused
from discern.evaluation.layouts.faceforensics import pair_of
from discern.evaluation.layouts.reading import (
    IMAGES,
    Groups,
    check_options,
    files_below,
    nothing_found,
    records_of,
    some,
    words,
)
from discern.evaluation.types import Label
from discern.evaluation.types_datasets import FoundItem, FoundMedia

OPTIONS: Mapping[str, str] = {
    "methods": "Names of lists (simswap_ff) or folders (simswap), separated by commas; left out: all that are there.",
    "frames": "How many evenly spaced frames of a video are taken; left out: all.",
}
_LISTS = "dataset_json"
_DOMAINS = {"ff": "FaceForensics++", "cdf": "Celeb-DF"}
_REAL = ("_real", "real", "-real")
# The later side wins where the lists give a frame to several: the validation lists repeat those for tests.
_ORDER = ("train", "val", "test")
_Frame = tuple[str, Label, str, str, str | None]


def find(root: Path, options: Mapping[str, str]) -> FoundMedia:
    """Return the frames. Raises DatasetRefused."""
    check_options("df40", OPTIONS, options)
    paths = files_below(root, IMAGES)
    methods = words(options.get("methods"))
    lists = [path for path in files_below(root, frozenset({".json"})) if PurePosixPath(path).parent.name == _LISTS]
    lists = [path for path in lists if not methods or PurePosixPath(path).stem in methods]
    taken = _frames_asked(options.get("frames"))
    frames = list(_listed(root, lists, paths, taken) if lists else _by_folders(paths, methods, taken))
    if not frames:
        raise nothing_found("df40", "METHOD/ff/frames/VIDEO/*.png, or dataset_json with METHOD.json")
    groups = Groups()
    for _, _, _, video, _ in frames:
        groups.join(*(pair_of(video) or (video, video)))
    chosen, twice = _once(frames)
    items = [
        FoundItem(path, label, _group(video, groups), split, {"method": method}, video=f"{method}/{video}")
        for path, label, method, video, split in chosen
    ]
    caveats = [f"{twice:,} frames stand on several sides of the lists; the later side is taken."] if twice else []
    if not any(item.label == 0 for item in items):
        caveats.append("The archives of DF40 hold fakes; its real frames are those of FaceForensics++ and Celeb-DF.")
    return FoundMedia("image", ("real", "fake"), items, tuple(lists), tuple(caveats))


def _frames_asked(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdigit() or int(text) == 0:
        raise DatasetRefused(f"The option frames is {text[:100]!r}.", mend="Give a number from 1 on.")
    return int(text)


def _evenly(frames: list[str], most: int | None) -> list[str]:
    if most is None or len(frames) <= most:
        return frames
    return [frames[(2 * part + 1) * len(frames) // (2 * most)] for part in range(most)]


def _listed(root: Path, lists: list[str], paths: list[str], most: int | None) -> Iterator[_Frame]:
    places = _Places(paths)
    for path in lists:
        for name, by_label in records_of(root, path).items():
            for by_split in by_label.values():
                for split, videos in by_split.items():
                    yield from _videos(name, split, videos, places, most)
    if places.missing:
        raise DatasetRefused(
            f"The lists name {len(places.missing):,} frames that are not here: {some(places.missing)}.",
            mend="Complete the copy, or name with methods the lists whose frames are here.",
        )


def _videos(name: str, split: str, videos: Mapping[str, Any], places: _Places, most: int | None) -> Iterator[_Frame]:
    for video, facts in videos.items():
        if isinstance(facts, dict) and "frames" not in facts:
            yield from _videos(name, split, facts, places, most)
            continue
        label: Label = 0 if str(facts["label"]).lower().endswith(_REAL) else 1
        for frame in _evenly(sorted(str(one).replace("\\", "/") for one in facts["frames"]), most):
            if found := places.find(frame):
                yield found, label, name if label else "original", video, split


class _Places:
    """Where the frames of the lists lie, by the longest end of their path that is here."""

    def __init__(self, paths: list[str]) -> None:
        self._here = frozenset(paths)
        self._cut = 0
        self.missing: list[str] = []

    def find(self, frame: str) -> str | None:
        parts = PurePosixPath(frame).parts
        # The place that the last one was cut at comes first: it is nearly always that one.
        for cut in (self._cut, *range(len(parts))):
            path = "/".join(parts[cut:])
            if path in self._here:
                self._cut = cut
                return path
        self.missing.append(frame)
        return None


def _by_folders(paths: list[str], methods: tuple[str, ...], most: int | None) -> Iterator[_Frame]:
    videos: dict[tuple[str, str, Label], list[str]] = {}
    for path in paths:
        folders = PurePosixPath(path).parts[:-1]
        if not folders or (methods and folders[0] not in methods):
            continue
        label: Label = 0 if any(folder.lower().endswith(_REAL) for folder in folders) else 1
        domain = next((_DOMAINS[folder] for folder in folders if folder in _DOMAINS), None)
        method = folders[0] if domain is None else f"{folders[0]} on {domain}"
        alone = len(folders) < 3 or "frames" not in folders
        videos.setdefault((method if label else "original", path if alone else folders[-1], label), []).append(path)
    for (method, video, label), frames in sorted(videos.items()):
        for path in _evenly(frames, most):
            yield path, label, method, video, None


def _once(frames: list[_Frame]) -> tuple[list[_Frame], int]:
    """Return every frame once, and how many stood on several sides."""
    found: dict[str, _Frame] = {}
    twice: set[str] = set()
    for frame in frames:
        before = found.setdefault(frame[0], frame)
        if before[1] != frame[1]:
            raise DatasetRefused(f"The lists call {frame[0]} real and fake.", mend="Take the official lists.")
        if before[4] != frame[4]:
            twice.add(frame[0])
            if _rank(frame[4]) > _rank(before[4]):
                found[frame[0]] = frame
    return list(found.values()), len(twice)


def _rank(split: str | None) -> int:
    return _ORDER.index(split) if split in _ORDER else -1


def _group(video: str, groups: Groups) -> str:
    if pair_of(video) is not None:
        return f"sequence {groups.of(video[:3])}"
    person = video.split("_", 1)[0]
    return f"person {person}" if person.startswith("id") and person[2:].isdigit() else f"video {video}"
