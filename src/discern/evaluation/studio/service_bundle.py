"""The next version of a bundle, with the thresholds, exits and calibrations that were chosen, and why.

- Everything else stays as it was. A choice that is written replaces the whole decision, bands included.
- The reference says nothing of scores where the same inputs get others: drift would be measured against another scale.
- It appears whole or not at all, unsigned: signing is the operator's.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from discern.detectors.bundle import read_file
from discern.detectors.files import taken
from discern.detectors.manifest import MANIFEST_NAME
from discern.detectors.manifest_file import MANIFEST_BYTES, dump_manifest, load_manifest
from discern.detectors.packing import next_version, pack

if TYPE_CHECKING:
    from discern.detectors.bundle import Bundle
    from discern.detectors.manifest import Manifest
    from discern.evaluation.studio.types import StageCalibration, ThresholdChoice
    from discern.evaluation.types import Estimate


_OF_SCORES = {"scores", "classes"}
"""What a bundle's reference says of scores, of all items and of each class."""


def manifest_with(data: dict[str, Any], choice: ThresholdChoice, calibrated_on: str | None) -> dict[str, Any]:
    """Return the plain data of a manifest with the choice in it, as its next version."""
    first, *others = choice.chosen.cuts
    decision: dict[str, Any] = {"review_from": first.review_from, "flag_from": first.flag_from}
    if others:
        steps = [{"from": one.start, "review_from": one.review_from, "flag_from": one.flag_from} for one in others]
        decision["bands"] = {"field": choice.amount_field, "steps": steps}
    decision["chosen_by"] = evidence(choice)
    stages = [dict(stage) for stage in data["stages"]]
    for exit_ in choice.chosen.exits:
        stages[exit_.stage]["exits"] = {"clear_below": exit_.clear_below, "flag_above": exit_.flag_above}
    for found in choice.calibrations:
        stage = next(one for one in stages if one["name"] == found.stage)
        stage["calibration"] = {**found.calibration, "fitted_by": _fitted_by(found, choice, calibrated_on)}
    replaced = {"version": next_version(data["version"]), "stages": stages, "decision": decision}
    return {key: replaced.get(key, value) for key, value in data.items()}


def evidence(choice: ThresholdChoice) -> dict[str, Any]:
    """Return what the thresholds were chosen by: what was asked, on which data, and what it comes to."""
    goal = choice.goal
    asked = {key: value for key, value in msgspec.to_builtins(goal.costs).items() if value}
    limits = {
        "max_reviews": goal.reviews,
        "max_cards_a_day": None if choice.cards is None else choice.cards.allowed,
        "max_false_positive_rate": goal.max_fpr,
    }
    found: dict[str, Any] = {"costs": asked, **{key: value for key, value in limits.items() if value is not None}}
    if goal.upper_end:
        found["at_the_upper_end"] = True
    found |= {
        "prevalence": _short(choice.prevalence),
        "dataset": choice.dataset,
        "manifest_sha256": choice.manifest_sha256,
        "split": choice.split,
        "items": choice.items,
        "positives": choice.positives,
        "groups": choice.groups,
        "expected_cost": _plain(choice.cost),
        "review_from": _plain(choice.review_from),
        "flag_from": _plain(choice.flag_from),
        "seed": choice.seed,
    }
    if choice.cards is not None:
        found["cards_a_day"] = {"paying": _short(choice.cards.paying), "reviewed": _short(choice.cards.reviewed)}
    if choice.bands:
        found["bands"] = [
            {"from": one.start, "review_from": _plain(one.review_from), "flag_from": _plain(one.flag_from)}
            for one in choice.bands
        ]
    return found


def scores_differ(manifest: Manifest, choice: ThresholdChoice) -> bool:
    """Tell whether the choice gives an input another score: by a calibration, or by the stage that it leaves at."""
    had = [stage.exits for stage in manifest.stages[:-1]]
    exits = [None if one is None else (one.clear_below, one.flag_above) for one in had]
    return bool(choice.calibrations) or exits != [(one.clear_below, one.flag_above) for one in choice.chosen.exits]


def reference_without_scores(content: bytes) -> bytes:
    """Return a bundle's reference without what it says of scores; where it is no object it says nothing of them."""
    found = json.loads(content)
    if not isinstance(found, dict):
        return content
    return json.dumps({key: one for key, one in found.items() if key not in _OF_SCORES}, indent=1).encode() + b"\n"


def write_next(bundle: Bundle, choice: ThresholdChoice, calibrated_on: str | None, destination: Path) -> Bundle:
    """Write the next version of `bundle` to the folder `destination` and return it.

    Raises OperatorError where `destination` exists or cannot be written, and BundleRefused.
    """
    if destination.exists():
        raise taken(destination)
    data = load_manifest(read_file(bundle.root, MANIFEST_NAME, MANIFEST_BYTES))
    data.pop("files", None)
    with tempfile.TemporaryDirectory(prefix="discern-thresholds-") as folder:
        source = Path(folder)
        for name in bundle.manifest.files:
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            content = bundle.read(name)
            silent = name == bundle.manifest.reference and scores_differ(bundle.manifest, choice)
            path.write_bytes(reference_without_scores(content) if silent else content)
        (source / MANIFEST_NAME).write_bytes(dump_manifest(manifest_with(data, choice, calibrated_on)))
        return pack(source, destination)


def _fitted_by(found: StageCalibration, choice: ThresholdChoice, split: str | None) -> dict[str, Any]:
    losses = {one.kind: _short(one.log_loss) for one in found.tried if one.log_loss is not None}
    where = {"dataset": choice.dataset, "manifest_sha256": choice.manifest_sha256, "split": split}
    return {**where, "items": found.items, "log_loss": losses, "seed": choice.seed}


def _plain(estimate: Estimate) -> dict[str, float | None]:
    named = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {key: None if value is None else _short(value) for key, value in named.items()}


def _short(value: float) -> float:
    return float(f"{value:.6g}")
