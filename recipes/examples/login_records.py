"""Data that the record examples train on: logins, some of them by somebody who took over the account.

Invariants:
- The same seed gives the same records and labels.
- The columns of the tensor stand in the order of `INPUT["fields"]`: a boolean is 0 or 1, a category its index in the
  list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHANNELS = ["app", "web", "phone"]

INPUT: dict[str, Any] = {
    "kind": "record",
    "fields": [
        {"name": "hour", "type": "integer", "minimum": 0, "maximum": 23, "unit": "h", "description": "Local hour."},
        {
            "name": "failed_attempts",
            "type": "integer",
            "minimum": 0,
            "maximum": 1000,
            "description": "In the last day.",
        },
        {
            "name": "distance",
            "type": "number",
            "minimum": 0,
            "maximum": 20038,
            "unit": "km",
            "description": "To the last login.",
        },
        {"name": "new_device", "type": "boolean", "description": "First login from this device."},
        {"name": "channel", "type": "category", "categories": CHANNELS, "description": "Where the login was made."},
    ],
}
"""The `input` section of the manifest."""

CLASSES = {"negative": "owner", "positive": "takeover"}
TASK = "Tells logins of an account's owner from logins of somebody who took the account over."


@dataclass(frozen=True)
class Split:
    """Records float32 [N, 5] and labels int64 [N] (1 is a takeover): to train on, and held out."""

    train: NDArray[np.float32]
    train_label: NDArray[np.int64]
    held_out: NDArray[np.float32]
    held_out_label: NDArray[np.int64]


def make_logins(count: int = 2000, seed: int = 7) -> Split:
    """`count` made-up logins, half of them held out; about one in six is a takeover."""
    random = np.random.default_rng(seed)
    hour = random.integers(0, 24, count)
    failed = random.poisson(0.7, count)
    distance = np.minimum(random.lognormal(2.0, 2.0, count), 20_038.0)
    new_device = random.random(count) < 0.2
    channel = random.integers(0, len(CHANNELS), count)
    margin = 0.5 * failed + 0.6 * np.log1p(distance) + 1.6 * new_device - 0.7 * (channel == 0) + 0.5 * (hour < 6) - 4.1
    label = (random.random(count) < 1.0 / (1.0 + np.exp(-2.5 * margin))).astype(np.int64)
    records = np.column_stack([hour, failed, distance, new_device, channel]).astype(np.float32)
    half = count // 2
    return Split(records[:half], label[:half], records[half:], label[half:])
