"""Deepfake-Eval-2024 (Chandra et al., 2025): `video-metadata-publish.csv` and `image-metadata-publish.csv`.

Their columns `Filename`, `Ground Truth` (Real, Fake) and `Finetuning Set` (Train, Test); the files lie in `video-data`
and `image-data`. Sound is not judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from discern.core.errors import DatasetRefused
from discern.evaluation.layouts.folder import GROUP_IS_THE_FILE
from discern.evaluation.layouts.reading import below_root, check_options, choice, csv_rows
from discern.evaluation.types import Label
from discern.evaluation.types_datasets import FoundItem, FoundMedia

OPTIONS: Mapping[str, str] = {"media": "video or image."}
_LABELS: Mapping[str, Label] = {"real": 0, "fake": 1}
_COLUMNS = ("Filename", "Ground Truth")


def find(root: Path, options: Mapping[str, str]) -> FoundMedia:
    """Return the videos or the images that the list names. Raises DatasetRefused."""
    check_options("deepfake-eval-2024", OPTIONS, options)
    media = choice(options, "media", ("video", "image"))
    path = f"{media}-metadata-publish.csv"
    folder = next((name for name in (f"{media}-data", f"{media}_data", media) if (root / name).is_dir()), None)
    if folder is None:
        raise DatasetRefused(f"There is no folder {media}-data.", mend="Put the files there.")
    items = []
    without = 0
    for row in csv_rows(root, path, _COLUMNS):
        label = _LABELS.get(row["Ground Truth"].strip().lower())
        if label is None:
            without += 1
            continue
        file = f"{folder}/{below_root(row['Filename'], path)}"
        split = (row.get("Finetuning Set") or "").strip().lower() or None
        items.append(FoundItem(file, label, file, split))
    caveats = [GROUP_IS_THE_FILE]
    if without:
        caveats.append(f"{without:,} files are called neither real nor fake and are left out.")
    return FoundMedia("video" if media == "video" else "image", ("real", "fake"), items, (path,), tuple(caveats))
