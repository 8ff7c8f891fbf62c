"""What of a verdict is looked at: the subjects of a release, and their values.

- Known answers, windows of streams, and all but one input in ten seconds of a live stream are left out: they repeat
  what was looked at, and say nothing of themselves.
- Of a clip the score of its middle frame stands for it: references are of single pictures.
- A field that the manifest or a setting calls identifying has no sketch.
- No more than `MOST_SUBJECTS` are watched of a release: the fields that come first.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from discern.core.errors import BundleRefused
from discern.core.verdict import Verdict
from discern.detection.types import LedgerEntry
from discern.detectors.assessment import Detector
from discern.detectors.bundle import Bundle
from discern.detectors.manifest import Manifest
from discern.detectors.scoring import DECISIONS
from discern.inputs.picture_statistics import picture_statistics
from discern.inputs.spec import CategoryField, ImageSpec, RecordSpec
from discern.monitoring.drift.rules_references import MOST_CATEGORIES, of_table, table_of
from discern.monitoring.drift.rules_sketches import sketch_of
from discern.monitoring.drift.types import Edges, Kind, Learning, Piece, Release, Sketch, Subject

MOST_SUBJECTS = 64
_OF_PICTURES = ("brightness", "contrast", "sharpness", "saturation", "width", "height", "aspect", "bytes")
_OF_EMBEDDINGS = ("embedding:mean", *(f"embedding:{number}" for number in range(1, 5)))
_MOST_EMBEDDED = 8
_CODES = {decision: float(code) for code, decision in enumerate(DECISIONS)}
_MISSING = ("there", "missing")
# Of more categories the names are not kept beside each release: they are told by their number.
_MOST_NAMED = 200
Values = NDArray[np.float32]


class Watched(NamedTuple):
    """A subject as its values come: `column` is that of a record, -1 where it is none.

    `is_exact` is unset for what may be about a person: its sketch keeps rounded values.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...] = ()
    column: int = -1
    is_exact: bool = True


def watched_of(
    manifest: Manifest, left_out: Collection[str] = (), *, has_embedding: bool = False
) -> tuple[Watched, ...]:
    """Return the subjects of a release; `left_out` are fields, as `DETECTOR:FIELD`."""
    found = [Watched("score", "number"), Watched("decision", "category", tuple(DECISIONS))]
    if has_embedding:
        found += [Watched(name, "number") for name in _OF_EMBEDDINGS]
    if isinstance(manifest.input, ImageSpec):
        found += [Watched(f"image:{name}", "number") for name in _OF_PICTURES]
    else:
        found += _fields(manifest.input, {name.partition(":")[2] for name in left_out if _is_of(name, manifest)})
    return tuple(found[:MOST_SUBJECTS])


def _is_of(name: str, manifest: Manifest) -> bool:
    return name.partition(":")[0] == manifest.name


def _fields(spec: RecordSpec, left_out: Collection[str]) -> list[Watched]:
    fields = [
        (column, field)
        for column, field in enumerate(spec.fields)
        if not field.identifies and field.name not in left_out
    ]
    values = [
        Watched(f"field:{field.name}", "category", field.categories, column)
        if isinstance(field, CategoryField)
        else Watched(f"field:{field.name}", "number", (), column, is_exact=False)
        for column, field in fields
    ]
    missing = [
        Watched(f"missing:{field.name}", "category", _MISSING, column)
        for column, field in fields
        if field.missing == "nan"
    ]
    return [*values, *missing]


def values_of(entries: Sequence[LedgerEntry], watched: Sequence[Watched], detector: Detector | None = None) -> Values:
    """Return the values of verdicts [verdicts, subjects], NaN where one is missing.

    `detector` is given where it has embeddings: these are of the first few, for making one takes a part of judging.
    """
    values = np.full((len(entries), len(watched)), np.nan, np.float32)
    values[:, 0] = [_score(entry.verdict) for entry in entries]
    values[:, 1] = [_CODES[entry.verdict.decision] for entry in entries]
    first = 2
    if detector is not None:
        first += len(_OF_EMBEDDINGS)
        projected = _projected(entries[:_MOST_EMBEDDED], detector)
        values[: len(projected), 2:first] = projected
    if isinstance(entries[0].seen, tuple) and entries[0].seen:
        records = np.array([entry.seen for entry in entries], dtype=np.float32)
        for place, subject in enumerate(watched):
            if subject.name.startswith("missing:"):
                values[:, place] = np.isnan(records[:, subject.column])
            elif subject.column >= 0:
                values[:, place] = records[:, subject.column]
    elif entries[0].verdict.input.kind != "record":
        for row, entry in enumerate(entries):
            values[row, first : first + len(_OF_PICTURES)] = _of_picture(entry)
    return values


def _projected(entries: Sequence[LedgerEntry], detector: Detector) -> Values:
    """Return the mean of each embedding, and where it lies along directions that are the same for all, drawn once."""
    rows = [entry.seen for entry in entries if isinstance(entry.seen, np.ndarray) or entry.seen]
    if not rows:
        return np.empty((0, len(_OF_EMBEDDINGS)), np.float32)
    is_record = isinstance(rows[0], tuple)
    found = detector.embedding(np.array(rows, dtype=np.float32) if is_record else np.array(rows))
    if found is None:
        return np.empty((0, len(_OF_EMBEDDINGS)), np.float32)
    directions = np.random.default_rng(0).normal(size=(found.shape[1], len(_OF_EMBEDDINGS) - 1))
    directions /= np.linalg.norm(directions, axis=0)
    return np.column_stack([found.mean(axis=1), found @ directions]).astype(np.float32)


def _score(verdict: Verdict) -> float:
    if verdict.degraded is not None:  # the score of an earlier stage
        return float("nan")
    return verdict.frames[len(verdict.frames) // 2].score if verdict.frames else verdict.score


def _of_picture(entry: LedgerEntry) -> tuple[float, ...]:
    facts = entry.verdict.input
    size = (facts.width or float("nan"), facts.height or float("nan"))
    if not isinstance(entry.seen, np.ndarray):  # a clip
        return (float("nan"),) * 4 + (*size, size[0] / size[1], float("nan"))
    return (*picture_statistics(entry.seen), *size, size[0] / size[1], float(facts.bytes))


def piece_of(values: Values, watched: Sequence[Watched], release: Release, at: datetime) -> Piece:
    """Return the sketches of values [verdicts, subjects]."""
    subjects = {subject.name: subject for subject in release.subjects}
    sketches: dict[str, Sketch] = {}
    for column, one in enumerate(watched):
        subject = subjects.get(one.name)
        if subject is not None:
            sketches[one.name] = sketch_of(
                values[:, column],
                subject.kind,
                subject.edges,
                subject.edges_number,
                is_exact=one.is_exact,
                categories=len(one.labels),
            )
    return Piece(len(values), at, sketches)


def begun(bundle: Bundle, watched: Sequence[Watched], now: datetime) -> Release:
    """Return a release as it begins to be watched: with the references of its bundle, the rest to be learned."""
    reference = reference_of(bundle)
    return Release(0, now, tuple(begun_subject(one, reference, 0) for one in watched))


def begun_subject(one: Watched, reference: dict[str, object], edges_number: int) -> Subject:
    """Return a subject as it begins to be watched. `reference` is that of the bundle, empty for one to be learned."""
    if one.kind == "category":
        few = len(one.labels) <= MOST_CATEGORIES
        edges = Edges(codes=tuple(range(len(one.labels)))) if few else Edges()
        labels = one.labels if len(one.labels) <= _MOST_NAMED else ()
        return Subject(one.name, one.kind, labels, edges_number, edges, learning=Learning())
    table = table_of(_part(reference, one.name), reference.get("count"))
    if table is None:
        return Subject(one.name, one.kind, one.labels, edges_number, learning=Learning())
    edges, found = of_table(table, is_score=one.name == "score")
    return Subject(one.name, one.kind, one.labels, edges_number, edges, found)


def reference_of(bundle: Bundle) -> dict[str, object]:
    """Return what the bundle says of the data it was made on; what is no JSON object says nothing."""
    if bundle.manifest.reference is None:
        return {}
    try:
        found = json.loads(bundle.read(bundle.manifest.reference))
    except (BundleRefused, ValueError, RecursionError):  # such a bundle is not run either
        return {}
    return found if isinstance(found, dict) else {}


def _part(reference: dict[str, object], name: str) -> object:
    kind, _, field = name.partition(":")
    if kind == "score":
        return reference.get("scores")
    features = reference.get("features") if kind == "field" else reference.get("images")
    return features.get(field) if isinstance(features, dict) else None
