"""NTHU Driver Drowsiness Detection (Weng et al., 2016): `SUBJECT/SCENARIO/BEHAVIOUR.avi` with labels by frame.

`SUBJECT_BEHAVIOUR_drowsiness.txt` beside a video holds a digit a frame, 1 for drowsy. The evaluation set is
`SUBJECT_SCENARIO_mix.mp4` with `SUBJECT_SCENARIO_mixing_drowsiness.txt` somewhere below the root. A video is drowsy
where at least a share of its frames is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from discern.core.errors import DatasetRefused
from discern.evaluation.layouts.reading import VIDEOS, check_options, files_below, nothing_found
from discern.evaluation.types_datasets import FoundItem, FoundMedia

OPTIONS: Mapping[str, str] = {"drowsy-share": "From which share of drowsy frames on a video is drowsy; 0.5 left out."}
_MIX = re.compile(r"([0-9]{3})_(.+)_mix(?:ing)?")
_SUBJECT = re.compile(r"[0-9]{3}")
_Video = tuple[str, str, str, str | None]


def find(root: Path, options: Mapping[str, str]) -> FoundMedia:
    """Return the videos. Raises DatasetRefused."""
    check_options("nthu-ddd", OPTIONS, options)
    share = _share(options.get("drowsy-share", "0.5"))
    texts = {_plain(PurePosixPath(path).name): path for path in files_below(root, frozenset({".txt"})) if "mix" in path}
    items, read = [], []
    without = 0
    for path in files_below(root, VIDEOS):
        video = _video(path)
        if video is None:
            continue
        subject, scenario, behaviour, split = video
        labels = _labels_path(root, path, video, texts)
        if labels is None:
            without += 1
            continue
        read.append(labels)
        drowsy = _drowsy_share(root, labels)
        subgroups = {"scenario": _plain(scenario), "behaviour": behaviour}
        items.append(FoundItem(path, 1 if drowsy >= share else 0, f"subject {subject}", split, subgroups))
    if not items:
        raise nothing_found("nthu-ddd", "001/glasses/sleepyCombination.avi with 001_sleepyCombination_drowsiness.txt")
    caveats = [f"Labels are by frame; a video is drowsy where at least {share:g} of its frames are."]
    if without:
        caveats.append(f"{without:,} videos have no labels of drowsiness and are left out.")
    return FoundMedia("video", ("alert", "drowsy"), items, tuple(sorted(set(read))), tuple(caveats))


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise DatasetRefused(f"The option drowsy-share is {text[:100]!r}.", mend="Give a number above 0, at most 1.")
    return share


def _video(path: str) -> _Video | None:
    plain = PurePosixPath(path)
    if match := _MIX.fullmatch(plain.stem):
        return match[1], match[2], "mix", "evaluation"
    if len(plain.parts) >= 3 and _SUBJECT.fullmatch(plain.parts[-3]):
        return plain.parts[-3], plain.parts[-2], plain.stem, "train"
    return None


def _labels_path(root: Path, path: str, video: _Video, texts: Mapping[str, str]) -> str | None:
    subject, scenario, behaviour, split = video
    if split == "evaluation":
        return texts.get(_plain(f"{subject}_{scenario}_mixing_drowsiness.txt"))
    beside = (PurePosixPath(path).parent / f"{subject}_{behaviour}_drowsiness.txt").as_posix()
    return beside if (root / beside).is_file() else None


def _plain(name: str) -> str:
    # Videos are called nightnoglasses and their labels night_noglasses.
    return name.lower().replace("night_", "night")


def _drowsy_share(root: Path, path: str) -> float:
    try:
        digits = (root / path).read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetRefused(f"{path} cannot be read: {error}.", mend="See the file.") from error
    frames = "".join(digits)
    if not frames or set(frames) - {"0", "1"}:
        raise DatasetRefused(f"{path} does not hold a 0 or 1 for each frame.", mend="Take the dataset's own file.")
    return frames.count("1") / len(frames)
