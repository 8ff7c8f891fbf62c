"""What a bundle tells of its scores.

- Numbers that the bundle does not give are not guessed: an estimate then says what its interval leaves out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from discern.detectors.bundle import Bundle
from discern.monitoring.quality.rules_estimated import doubt_of
from discern.monitoring.quality.types import CalibrationDoubt, Evidence


class _Scores(msgspec.Struct):
    quantiles: list[float]


class _Reference(msgspec.Struct):
    """What is read of a reference: the quantiles of scores, evenly spaced, and how many inputs they are of."""

    scores: _Scores
    count: int


def evidence_of(bundle: Bundle) -> Evidence:
    """Return what a bundle tells. Raises BundleRefused where its files are not what the manifest lists."""
    manifest = bundle.manifest
    return Evidence(frozenset(stage.name for stage in manifest.stages), _doubt(bundle), manifest.video is not None)


def _doubt(bundle: Bundle) -> CalibrationDoubt | None:
    if bundle.manifest.reference is None:
        return None
    try:
        reference = msgspec.json.decode(bundle.read(bundle.manifest.reference), type=_Reference)
    except (msgspec.ValidationError, msgspec.DecodeError):
        return None
    fitted_on: Any = bundle.manifest.stages[-1].calibration.fitted_by.get("items")
    items = fitted_on if isinstance(fitted_on, int) and not isinstance(fitted_on, bool) else reference.count
    return doubt_of(reference.scores.quantiles, items)
