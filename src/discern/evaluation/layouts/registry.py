"""Which layouts there are. Adding one is copying a file and naming it here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol, cast

from discern.core.errors import DatasetRefused
from discern.evaluation.types_datasets import Found

_HERE = "discern.evaluation.layouts"


class Layout(Protocol):
    """What a file of a layout holds: the options it takes, each with what it means, and how it finds the items."""

    OPTIONS: Mapping[str, str]

    def find(self, root: Path, options: Mapping[str, str]) -> Found:
        """Return what lies below `root`. Raises DatasetRefused."""
        ...


class Entry(NamedTuple):
    """A layout: the module that knows it, and what it is for."""

    module: str
    summary: str


LAYOUTS: Mapping[str, Entry] = {
    "folder": Entry(f"{_HERE}.folder", "Files in folders named for their class, their split or their source."),
    "table": Entry(f"{_HERE}.table", "CSV or Parquet: a column of paths, or records."),
    "webdataset": Entry(
        f"{_HERE}.webdataset", "WebDataset: tar files of samples, `KEY.jpg` beside `KEY.json` or `KEY.cls`."
    ),
    "faceforensics": Entry(f"{_HERE}.faceforensics", "FaceForensics++, with its official splits."),
    "celeb-df-v2": Entry(f"{_HERE}.celeb_df", "Celeb-DF-v2, with its list of testing videos."),
    "dfdc": Entry(f"{_HERE}.dfdc", "Deepfake Detection Challenge: folders with a metadata.json each."),
    "dfdc-preview": Entry(f"{_HERE}.dfdc_preview", "Preview of the Deepfake Detection Challenge: dataset.json."),
    "df40": Entry(f"{_HERE}.df40", "DF40: frames, with its dataset_json or by its folders."),
    "deepfake-eval-2024": Entry(f"{_HERE}.deepfake_eval", "Deepfake-Eval-2024: its images or its videos."),
    "uta-rldd": Entry(f"{_HERE}.uta_rldd", "UTA Real-Life Drowsiness Dataset, with its folds."),
    "nthu-ddd": Entry(f"{_HERE}.nthu_ddd", "NTHU Driver Drowsiness Detection, labels by frame."),
    "yawdd": Entry(f"{_HERE}.yawdd", "YawDD: yawning drivers."),
    "fraud-handbook": Entry(f"{_HERE}.fraud_handbook", "Transactions of the Fraud Detection Handbook."),
    "ulb-credit-card": Entry(f"{_HERE}.ulb_credit_card", "ULB credit card fraud: creditcard.csv."),
    "ieee-cis": Entry(f"{_HERE}.ieee_cis", "IEEE-CIS fraud detection: transactions and identities."),
}


def layout_of(name: str) -> Layout:
    """Return a layout by its name. Raises DatasetRefused for one there is not."""
    entry = LAYOUTS.get(name)
    if entry is None:
        raise DatasetRefused(f"There is no layout {name[:100]!r}.", mend=f"Name one of: {', '.join(LAYOUTS)}.")
    return cast("Layout", import_module(entry.module))
