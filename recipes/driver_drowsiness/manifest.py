"""The bundle's manifest and reference, as plain data; what a window is judged by is written here."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipes.driver_drowsiness.data import SIDE
from recipes.synthetic_face.measure import quantiles

NAME = "driver-drowsiness"
VERSION = "1.0.0"
REVIEW_FROM = 0.5
FLAG_FROM = 0.9

STREAM: dict[str, Any] = {
    "window_seconds": 60,
    "every_seconds": 5,
    "measure": "fraction_above",
    "of": "eyes",
    "from": 0.5,
    "review_at": 0.1,
    "flag_at": 0.15,
    "clear_below": 0.1,
    "least": 60,
    "known_from": 0.6,
    "gap_seconds": 0.5,
    "events": [
        {
            "name": "blink",
            "of": "eyes",
            "from": 0.5,
            "shortest_seconds": 0.08,
            "longest_seconds": 0.48,
            "least_per_second": 15,
        },
        {"name": "long_closure", "of": "eyes", "from": 0.5, "shortest_seconds": 0.5, "least_per_second": 4},
        {"name": "yawn", "of": "mouth", "from": 0.5, "shortest_seconds": 2.0, "least_per_second": 2},
    ],
    "also": [
        {"event": "long_closure", "measure": "longest_seconds", "review_at": 1.0, "flag_at": 2.0, "clear_below": 1.0},
        {"event": "yawn", "measure": "count", "review_at": 2, "flag_at": 3, "clear_below": 2},
    ],
}
"""Kept from the literature and from practice, not learned: the data hold no recording of a drowsy driver."""

VIDEO: dict[str, Any] = {"frames": 1500, "pool": "windows"}


def manifest(temperatures: dict[str, float], evidence: dict[str, Any]) -> dict[str, Any]:
    """The manifest without its `files`, which packing fills in."""
    never = {"clear_below": 0.0, "flag_above": 1.0}
    return {
        "format": 1,
        "name": NAME,
        "version": VERSION,
        "task": "Tells drivers whose eyes are closed or whose mouth is wide open, and windows of drowsy driving.",
        "input": {"kind": "image", "width": 3 * SIDE, "height": SIDE, "crop": "eyes_and_mouth", "no_face": "refuse"},
        "classes": {"negative": "alert", "positive": "drowsy"},
        "stages": [
            {
                "name": "eyes",
                "model": "eyes.onnx",
                "calibration": {"temperature": temperatures["eyes"]},
                "exits": dict(never),
            },
            {
                "name": "mouth",
                "model": "mouth.onnx",
                "takes": {"image": "input"},
                "calibration": {"temperature": temperatures["mouth"]},
                "exits": dict(never),
            },
            {"name": "frame", "model": "frame.onnx", "takes": {"eyes": "eyes.score", "mouth": "mouth.score"}},
        ],
        "decision": {"review_from": REVIEW_FROM, "flag_from": FLAG_FROM, "chosen_by": evidence},
        "video": VIDEO,
        "stream": STREAM,
        "reference": "reference.json",
        "card": "CARD.md",
    }


def reference(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> dict[str, object]:
    """Quantiles of the frame scores of drivers, all and by class."""
    classes = {"alert": score[~positive], "drowsy": score[positive]}
    return {
        "scores": {"quantiles": quantiles(score)},
        "count": len(score),
        "positive_rate": round(float(positive.mean()), 6),
        "classes": {name: {"quantiles": quantiles(part), "count": len(part)} for name, part in classes.items()},
    }
