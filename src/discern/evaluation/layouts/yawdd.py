"""YawDD (Abtahi et al., 2014): `Mirror/.../1-MaleNoGlasses-Yawning.avi`, `Dash/.../1-MaleGlasses.avi`.

Of the mirror camera each video shows one thing: Normal, Talking, Yawning, or Talking&Yawning, which counts as yawning.
A video of the dash camera shows all of them and has no label of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from discern.evaluation.layouts.reading import VIDEOS, check_options, files_below, nothing_found
from discern.evaluation.types_datasets import FoundItem, FoundMedia

OPTIONS: Mapping[str, str] = {}
_NAME = re.compile(r"([0-9]+)-(male|female)([a-z]*?)(?:\s*-\s*([a-z&\s]+?))?\s*(?:\.avi)?", re.IGNORECASE)


def find(root: Path, options: Mapping[str, str]) -> FoundMedia:
    """Return the videos of the mirror camera. Raises DatasetRefused."""
    check_options("yawdd", OPTIONS, options)
    items = []
    unlabelled = 0
    for path in files_below(root, VIDEOS):
        match = _NAME.fullmatch(PurePosixPath(path).stem)
        if match is None:
            continue
        number, sex, glasses, action = match.groups()
        if action is None:
            unlabelled += 1
            continue
        subgroups = {"sex": sex.lower(), "glasses": glasses.lower() or "not said", "action": action.lower()}
        group = f"{sex.lower()} {int(number)}"
        items.append(FoundItem(path, 1 if "yawn" in action.lower() else 0, group, None, subgroups))
    if not items:
        raise nothing_found("yawdd", "Mirror/.../1-MaleNoGlasses-Yawning.avi")
    caveats = (f"{unlabelled:,} videos of the dash camera show all in one and are left out.",) if unlabelled else ()
    return FoundMedia("video", ("no yawn", "yawn"), items, (), caveats)
