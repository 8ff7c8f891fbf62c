"""UTA Real-Life Drowsiness Dataset (Ghoddoosian et al., 2019): `Fold1_part1/01/{0,5,10}.mov`.

A video of 0 shows somebody alert, of 10 drowsy, of 5 with low vigilance; the folder is the participant, the fold the
side.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from discern.evaluation.layouts.reading import VIDEOS, check_options, choice, files_below, nothing_found
from discern.evaluation.types import Label
from discern.evaluation.types_datasets import FoundItem, FoundMedia

OPTIONS: Mapping[str, str] = {"low-vigilance": "What videos of 5 are: left-out, drowsy or alert."}
_FOLD = re.compile(r"fold_?([0-9]+)", re.IGNORECASE)
# A recording in two files is 10_1 and 10_2.
_STATE = re.compile(r"(0|5|10)(?:_[0-9]+)?")
_NAMES = {"0": "alert", "5": "low vigilance", "10": "drowsy"}


def find(root: Path, options: Mapping[str, str]) -> FoundMedia:
    """Return the videos. Raises DatasetRefused."""
    check_options("uta-rldd", OPTIONS, options)
    low = choice(options, "low-vigilance", ("left-out", "drowsy", "alert"))
    labels: dict[str, Label] = {"0": 0, "10": 1}
    if low != "left-out":
        labels["5"] = 1 if low == "drowsy" else 0
    items = []
    left_out = 0
    for path in files_below(root, VIDEOS):
        plain = PurePosixPath(path)
        state = _STATE.fullmatch(plain.stem)
        if state is None or len(plain.parts) < 2:
            continue
        label = labels.get(state[1])
        if label is None:
            left_out += 1
            continue
        fold = next((match[1] for part in plain.parts[:-2] if (match := _FOLD.match(part))), None)
        split = None if fold is None else f"fold{fold}"
        items.append(FoundItem(path, label, f"participant {plain.parts[-2]}", split, {"state": _NAMES[state[1]]}))
    if not items:
        raise nothing_found("uta-rldd", "Fold1_part1/01/0.mov, 5.mov and 10.mov")
    caveats = (f"{left_out:,} videos of low vigilance are left out.",) if left_out else ()
    return FoundMedia("video", ("alert", "drowsy"), items, (), caveats)
