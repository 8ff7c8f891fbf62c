"""What becomes of a window of verdicts, and of a release with it. Pure: the time is given.

- A window is closed by how many verdicts it has and how long it lasted, never by what they are: each is looked at once.
- Of windows in which nothing has changed, no more than one in `windows_per_false_alarm` raises any alarm, whatever the
  number of subjects and however they depend on each other; this holds for verdicts that do not depend on each other.
- An alarm begins in one window and ends after `QUIET_WINDOWS` in a row that look like the reference.
- A clock that jumps opens a window anew at worst; nothing is lost by it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
import numpy as np

from discern.monitoring.drift.rules_references import (
    cells_of_reference,
    edges_of_categories,
    edges_of_numbers,
    frozen,
    learned,
)
from discern.monitoring.drift.rules_sketches import merged, quantiles_of
from discern.monitoring.drift.statistics import categories, change_point, distances, holm, numbers
from discern.monitoring.drift.types import (
    QUANTILES,
    Alarm,
    Change,
    DriftChange,
    Edges,
    Period,
    Piece,
    Plan,
    Reading,
    Reference,
    Release,
    ReleaseKey,
    Sketch,
    Span,
    Subject,
    Window,
)

QUIET_WINDOWS = 3
"""So many windows in a row end an alarm."""
_QUIET_FROM = 0.01
HISTORY = 32
"""Windows that are kept to tell when a change began."""
_FEWEST_SHOWN = 5
_FEWEST_VALUES = 100
_SILENT = timedelta(days=7)
MOST_VERSIONS = 10
MOST_PERIODS: dict[Span, int] = {"hour": 24, "day": 30}


class Closed(NamedTuple):
    """A release after a window of it was closed, the window as it is kept, and what changed."""

    release: Release
    window: Window
    changes: tuple[DriftChange, ...]


def with_piece(window: Window, piece: Piece, release: Release) -> Window:
    """Return a window with what a process has seen."""
    return Window(
        window.number,
        window.began_at,
        window.verdicts + piece.verdicts,
        window.ended_at,
        {
            subject.name: merged(
                window.sketches.get(subject.name, Sketch(subject.edges_number)),
                piece.sketches.get(subject.name, Sketch(subject.edges_number)),
                subject.edges_number,
            )
            for subject in release.subjects
        },
    )


def started(window: Window, now: datetime) -> Window:
    """Return a window that began no later than now, though the clock be set back."""
    return msgspec.structs.replace(window, began_at=min(window.began_at, now))


def is_full(window: Window, now: datetime, plan: Plan) -> bool:
    """Tell whether a window is to be closed."""
    return window.verdicts >= plan.window_verdicts and now - window.began_at >= timedelta(seconds=plan.window_seconds)


def closed(
    key: ReleaseKey, release: Release, window: Window, past: Sequence[Window], now: datetime, plan: Plan
) -> Closed:
    """Compare a window with the references, and learn from it where there is none. `past` are those before it."""
    ended = msgspec.structs.replace(window, ended_at=now)
    readings = [_reading(subject, ended, plan) for subject in release.subjects]
    p_values = np.array([math.nan if reading is None else reading.p_value for reading in readings])
    rejected = holm(p_values, 1.0 / plan.windows_per_false_alarm)
    subjects, changes = [], []
    for subject, reading, is_rejected in zip(release.subjects, readings, rejected, strict=True):
        after = _learning_on(subject, ended, now, plan)
        if reading is not None:
            is_far = reading.distance >= plan.least_distance
            has_moved, is_quiet = is_far and bool(is_rejected), not is_far or reading.p_value > _QUIET_FROM
            after, change = _judged(after, reading, (*past, ended), now, has_moved=has_moved, is_quiet=is_quiet)
            changes += [_told(key, after, change, reading, now)] if change else []
        subjects.append(after)
    kept = {name: msgspec.structs.replace(sketch, kll=b"") for name, sketch in ended.sketches.items()}
    return Closed(
        msgspec.structs.replace(release, windows=window.number, began_at=now, subjects=tuple(subjects)),
        msgspec.structs.replace(ended, sketches=kept),
        tuple(changes),
    )


def _reading(subject: Subject, window: Window, plan: Plan) -> Reading | None:
    """Return what a window says of a subject; None where it has no reference, or too few verdicts have it."""
    sketch, reference = window.sketches.get(subject.name), subject.reference
    if reference is None or sketch is None or sketch.edges != subject.edges_number:
        return None
    verdicts = sum(sketch.cells)
    if not _is_enough(verdicts, plan):
        return None
    cells = np.array(sketch.cells, dtype=np.int64)
    missing = sketch.missing / (verdicts + sketch.missing)
    if subject.kind == "category":
        shares, before = cells / verdicts, np.array(reference.cells) / reference.verdicts
        moved = int(np.argmax(np.abs(shares - before)))
        spread = math.sqrt(before[moved] * (1 - before[moved]))
        return Reading(
            window.number,
            verdicts,
            _short(abs(float(shares[moved] - before[moved]))),
            float(categories(cells, reference)),
            _short(float(shares[moved] - before[moved]) / spread) if spread else None,
            shares=_shares(subject, sketch.cells, verdicts),
            missing=_short(missing),
        )
    return Reading(
        window.number,
        verdicts,
        _short(float(distances(cells, reference))),
        float(numbers(cells, reference)),
        _shift(sketch, reference),
        sketch.moments.mean,
        quantiles_of(sketch.kll, QUANTILES),
        missing=_short(missing),
    )


def _is_enough(values: int, plan: Plan) -> bool:
    """Tell whether so many values are worth looking at: what may miss, and embeddings, have fewer than verdicts."""
    return values >= min(_FEWEST_VALUES, plan.window_verdicts / 2)


def _short(number: float) -> float:
    return round(number, 6)


def _shift(sketch: Sketch, reference: Reference) -> float | None:
    if reference.mean is None or not reference.deviation:
        return None
    return _short((sketch.moments.mean - reference.mean) / reference.deviation)


def _shares(subject: Subject, cells: Sequence[int], verdicts: int) -> dict[str, float]:
    named = [subject.labels[code] if subject.labels else f"#{code}" for code in subject.edges.codes]
    counted = zip([*named, "other"], cells, strict=True)
    return {name: _short(count / verdicts) for name, count in counted if count >= _FEWEST_SHOWN}


def _judged(
    subject: Subject, reading: Reading, windows: Sequence[Window], now: datetime, *, has_moved: bool, is_quiet: bool
) -> tuple[Subject, Change | None]:
    """Return the subject after a window, and what changed."""
    quiet = subject.quiet + 1 if is_quiet else 0
    after = msgspec.structs.replace(subject, last=reading, quiet=quiet)
    if subject.alarm is None:
        if not has_moved or subject.reference is None:
            return msgspec.structs.replace(after, quiet=0), None
        alarm = Alarm(now, _since(subject, subject.reference, windows), reading.window)
        return msgspec.structs.replace(after, alarm=alarm, quiet=0), "began"
    if quiet < QUIET_WINDOWS:
        return after, None
    return msgspec.structs.replace(after, alarm=None, quiet=0), "ended"


def _since(subject: Subject, reference: Reference, windows: Sequence[Window]) -> datetime:
    """Return when the window began since which a subject differs."""
    alike = [
        window
        for window in windows
        if (sketch := window.sketches.get(subject.name)) and sketch.edges == subject.edges_number and sketch.cells
    ]
    cells = np.array([window.sketches[subject.name].cells for window in alike])
    return alike[change_point(cells, cells_of_reference(reference))].began_at


def _told(key: ReleaseKey, after: Subject, change: Change, reading: Reading, now: datetime) -> DriftChange:
    return DriftChange(
        key.detector,
        key.version,
        after.name,
        change,
        now,
        now if after.alarm is None else after.alarm.since,
        reading.window,
        reading.verdicts,
        reading.distance,
        reading.p_value,
        reading.shift,
    )


def _learning_on(subject: Subject, window: Window, now: datetime, plan: Plan) -> Subject:
    """Return the subject after what a window teaches of it."""
    learning, sketch = subject.learning, window.sketches.get(subject.name)
    if learning is None or sketch is None or sketch.edges != subject.edges_number:
        return subject
    if subject.edges == Edges():
        values = sum(sketch.cells) if subject.kind == "category" else sketch.moments.count
        if not _is_enough(values, plan):
            return subject
        edges = edges_of_categories(sketch.cells) if subject.kind == "category" else edges_of_numbers(sketch.kll)
        return msgspec.structs.replace(subject, edges_number=subject.edges_number + 1, edges=edges)
    if not _is_enough(sum(sketch.cells), plan):
        return subject
    learning = learned(learning, sketch, window.began_at)
    if learning.windows < plan.baseline_windows:
        return msgspec.structs.replace(subject, learning=learning)
    return msgspec.structs.replace(subject, learning=None, reference=frozen(subject, learning, now))


def silenced(key: ReleaseKey, release: Release, seen_at: datetime, now: datetime) -> Closed | None:
    """Return a release without its alarms where it has had no verdict for a week; None where nothing changes."""
    alarmed = [subject for subject in release.subjects if subject.alarm is not None]
    if now - seen_at < _SILENT or not alarmed:
        return None
    changes = tuple(
        DriftChange(key.detector, key.version, one.name, "silent", now, now, release.windows) for one in alarmed
    )
    subjects = tuple(msgspec.structs.replace(subject, alarm=None, quiet=0) for subject in release.subjects)
    return Closed(msgspec.structs.replace(release, subjects=subjects), Window(0, now), changes)


def forgotten(seen: Mapping[ReleaseKey, datetime]) -> list[ReleaseKey]:
    """Return the releases that are gone for good: of each detector all but the `MOST_VERSIONS` that were seen last.

    By their number, for a clock that jumps makes all of them older, and none older than another.
    """
    newest = sorted(seen, key=lambda key: seen[key], reverse=True)
    counts: Counter[tuple[str, str]] = Counter()
    gone = []
    for key in newest:
        counts[key.workspace, key.detector] += 1
        if counts[key.workspace, key.detector] > MOST_VERSIONS:
            gone.append(key)
    return gone


def start_of(span: Span, at: datetime) -> datetime:
    """Return when the hour or the day of a time began, in UTC."""
    hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return hour if span == "hour" else hour.replace(hour=0)


def with_sketches(period: Period, verdicts: int, sketches: dict[str, Sketch]) -> Period:
    """Return a period with what was seen in it; cells of numbers are not kept."""
    names = dict.fromkeys([*period.sketches, *sketches])
    return Period(
        period.span,
        period.at,
        period.verdicts + verdicts,
        {name: _joined(period.sketches.get(name), sketches.get(name)) for name in names},
    )


def _joined(one: Sketch | None, other: Sketch | None) -> Sketch:
    plain = [
        msgspec.structs.replace(sketch, edges=0, cells=()) if sketch.kll else sketch
        for sketch in (one, other)
        if sketch is not None
    ]
    return plain[0] if len(plain) == 1 else merged(plain[0], plain[1], plain[1].edges)


def folded(periods: Sequence[Period]) -> tuple[list[Period], list[tuple[Span, datetime]]]:
    """Return what is to be written and what deleted, so that no more periods are kept than may be.

    The oldest hours are put into their day, the oldest days dropped: by their number, whatever the clock says.
    """
    hours = sorted((one for one in periods if one.span == "hour"), key=lambda one: one.at)
    days = {one.at: one for one in periods if one.span == "day"}
    written: dict[datetime, Period] = {}
    gone: list[tuple[Span, datetime]] = []
    for hour in hours[: max(0, len(hours) - MOST_PERIODS["hour"])]:
        at = start_of("day", hour.at)
        day = days.get(at, Period("day", at))
        days[at] = written[at] = with_sketches(day, hour.verdicts, hour.sketches)
        gone.append(("hour", hour.at))
    for at in sorted(days)[: max(0, len(days) - MOST_PERIODS["day"])]:
        written.pop(at, None)
        gone.append(("day", at))
    return list(written.values()), gone
