"""What is told of drift, and references that are learned anew.

- A workspace is told of its own releases, whoever was granted single detectors of these.
- A reference is changed on purpose alone, by the command line, and that is on the audit log.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from discern.access.types import LOCAL, Principal
from discern.audit.types import Act
from discern.core.clock import Clock, utc_now
from discern.core.errors import CallerError, MissingExtra, UnknownDetector
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.monitoring.drift.ports import Bundles
from discern.monitoring.drift.rules_sketches import is_available, quantiles_of
from discern.monitoring.drift.sources import Watched, begun_subject, reference_of, watched_of
from discern.monitoring.drift.store import DriftStore, Fold, Standing
from discern.monitoring.drift.types import (
    QUANTILES,
    DriftChange,
    DriftReport,
    Period,
    PeriodReport,
    Plan,
    Reference,
    ReferenceReport,
    Release,
    ReleaseKey,
    ReleaseReport,
    Source,
    Subject,
    SubjectReport,
    Window,
)
from discern.monitoring.types import Sample

_CHANGES = 100
_TRIES = 20
LABELS = "labels"


class Drift:
    """The drift of an installation."""

    def __init__(
        self,
        store: DriftStore,
        bundles: Bundles,
        plan: Plan,
        left_out: Collection[str] = (),
        clock: Clock = utc_now,
    ) -> None:
        self._store = store
        self._bundles = bundles
        self._plan = plan
        self._left_out = left_out
        self._clock = clock

    def report(
        self, by: Principal, detector: str | None = None, version: str | None = None, subject: str | None = None
    ) -> DriftReport:
        """Return how the releases of a workspace stand, of one detector or version if named.

        With `subject` it has the history of that subject too, for which there must be one release alone. Raises
        StorageUnavailable, CallerError, and MissingExtra where the library for sketches is not installed.
        """
        check_available()
        wanted = {
            key: standing
            for key, standing in self._store.releases(by.workspace).items()
            if (by.detectors is None or key.detector in by.detectors)
            and detector in {None, key.detector}
            and version in {None, key.version}
        }
        windows = self._store.open_windows(by.workspace)
        changes = [
            one
            for one in self._store.changes(by.workspace, _CHANGES)
            if ReleaseKey(by.workspace, one.detector, one.version) in wanted
        ]
        return DriftReport(
            promise_of(self._plan),
            self._plan.window_verdicts,
            self._plan.window_seconds,
            self._plan.windows_per_false_alarm,
            QUANTILES,
            tuple(_of_release(key, standing, windows.get(key)) for key, standing in wanted.items()),
            tuple(changes),
            () if subject is None else self._history(list(wanted), subject),
        )

    def _history(self, keys: list[ReleaseKey], subject: str) -> tuple[PeriodReport, ...]:
        if len(keys) != 1:
            found = ", ".join(f"{key.detector} {key.version}" for key in keys) or "none"
            raise CallerError(
                f"A history is of one release; there are: {found}.",
                mend="Name a detector and a version that is watched.",
            )
        return tuple(_of_period(period, subject) for period in self._store.periods(keys[0]))

    def learn(
        self,
        workspace: str,
        detector: str,
        version: str | None,
        subject: str | None,
        source: Source,
        by: Principal = LOCAL,
    ) -> list[str]:
        """Learn the references of a release anew from traffic, or take its bundle's; return the subjects.

        Without a version it is the one that answers by default, without a subject all of them. What an alarm was about
        is no longer there, so it ends. Raises CallerError, UnknownDetector, BundleRefused and StorageUnavailable.
        """
        check_available()
        bundle = self._bundles.find(detector, version).bundle
        embeds = self._bundles.get(detector, bundle.manifest.version).has_embedding
        key = ReleaseKey(workspace, detector, bundle.manifest.version)
        watched = {one.name: one for one in watched_of(bundle.manifest, self._left_out, has_embedding=embeds)}
        reference = reference_of(bundle) if source == "bundle" else {}
        for _ in range(_TRIES):
            standing = self._store.release(key)
            if standing is None:
                detail = f"Nothing was asked of {detector} {key.version} in {workspace} yet."
                raise UnknownDetector(detail, mend="`discern drift` lists what was.", detector=detector)
            anew, release, changes = self._anew(key, standing.release, subject, watched, reference, source)
            target, after = f"detector:{detector}@{key.version}", {"subjects": anew, "of": source}
            act = Act(workspace, by.id, "drift.baseline", target, before=_sources(standing.release, anew), after=after)
            if self._store.write(key, standing.revision, Fold(release, standing.seen_at, changes=changes, act=act)):
                return anew
        raise CallerError("The release is being changed all the time.", mend="Try again.")

    def _anew(
        self,
        key: ReleaseKey,
        release: Release,
        subject: str | None,
        watched: dict[str, Watched],
        reference: dict[str, object],
        source: Source,
    ) -> tuple[list[str], Release, list[DriftChange]]:
        subjects, anew, changes, now = [], [], [], self._clock()
        for one in release.subjects:
            fresh = None
            if one.name in watched and subject in {None, one.name}:
                fresh = begun_subject(watched[one.name], reference, one.edges_number + 1)
            if fresh is None or (source == "bundle" and fresh.reference is None):
                subjects.append(one)
                continue
            subjects.append(fresh)
            anew.append(one.name)
            if one.alarm is not None:
                changes.append(DriftChange(key.detector, key.version, one.name, "ended", now, now, release.windows))
        if not anew:
            has = "; the bundle has a reference for none" if source == "bundle" else ""
            names = ", ".join(one.name for one in release.subjects)
            raise CallerError(f"There is no such subject to learn{has}.", mend=f"It has {names}.")
        return anew, msgspec.structs.replace(release, subjects=tuple(subjects)), changes

    def collect(self) -> Iterator[Sample]:
        """Yield the metrics of drift. Raises StorageUnavailable."""
        if not is_available():
            return
        for key, standing in self._store.releases().items():
            yield Sample("discern_drift_windows_total", tuple(key), standing.release.windows)
            for subject in standing.release.subjects:
                yield from _samples(key, subject)
            concept = standing.release.concept
            if concept is not None:
                labels = (*key, LABELS)
                yield Sample("discern_drift_alarm", labels, float(concept.alarm is not None))
                yield Sample("discern_drift_statistic", labels, concept.loss)


def _samples(key: ReleaseKey, subject: Subject) -> Iterator[Sample]:
    if subject.last is None:
        return
    labels = (*key, subject.name)
    yield Sample("discern_drift_alarm", labels, float(subject.alarm is not None))
    yield Sample("discern_drift_statistic", labels, subject.last.distance)
    if subject.last.shift is not None:
        yield Sample("discern_drift_shift", labels, subject.last.shift)


def _sources(release: Release, names: Collection[str]) -> dict[str, str]:
    """Return where the references of some subjects come from."""
    subjects = [subject for subject in release.subjects if subject.name in names]
    return {one.name: "learning" if one.reference is None else one.reference.source for one in subjects}


def check_available() -> None:
    """Raise MissingExtra where the library for sketches is not installed."""
    if not is_available():
        detail = "Drift is not watched: datasketches is not installed."
        raise MissingExtra(detail, mend="Install the extra `server`.", extra="server")


def promise_of(plan: Plan) -> str:
    """Return how often an alarm is false, in words."""
    return (
        f"While nothing changes, a release has at most one false alarm in {plan.windows_per_false_alarm:,} windows of "
        f"{plan.window_verdicts:,} verdicts, if verdicts do not depend on each other."
    )


def mend_of(key: ReleaseKey, subject: Subject) -> str:
    """Return what there is to do about an alarm where nothing is wrong."""
    is_bundle_s = subject.reference is not None and subject.reference.source == "bundle"
    than = "the bundle's, which is of its test data" if is_bundle_s else "what was learned"
    learn = f"discern drift baseline {key.detector}@{key.version} --subject {subject.name}"
    workspace = "" if key.workspace == DEFAULT_WORKSPACE else f" --workspace {key.workspace}"
    return (
        f"If its answers are right and only the reference is not yours ({than}), have it learned from your traffic: "
        f"`{learn}{workspace}`. If it comes and goes with the hours of the day, make windows a day long: "
        "DISCERN_DRIFT_WINDOW_SECONDS=86400."
    )


def _of_release(key: ReleaseKey, standing: Standing, window: Window | None) -> ReleaseReport:
    release = standing.release
    is_open = window is not None and window.ended_at is None
    return ReleaseReport(
        key.detector,
        key.version,
        release.windows,
        window.verdicts if window is not None and is_open else 0,
        window.began_at if window is not None and is_open else release.began_at,
        standing.seen_at,
        tuple(_of_subject(key, subject) for subject in release.subjects),
        release.concept,
    )


def _of_subject(key: ReleaseKey, subject: Subject) -> SubjectReport:
    return SubjectReport(
        subject.name,
        subject.kind,
        None if subject.reference is None else _of_reference(subject.reference),
        0 if subject.learning is None else subject.learning.windows,
        subject.last,
        subject.alarm,
        None if subject.alarm is None else mend_of(key, subject),
    )


def _of_reference(reference: Reference) -> ReferenceReport:
    return ReferenceReport(
        reference.source,
        reference.verdicts,
        reference.mean,
        reference.deviation,
        reference.quantiles,
        reference.since,
        reference.until,
    )


def _of_period(period: Period, subject: str) -> PeriodReport:
    sketch = period.sketches.get(subject)
    if sketch is None:
        return PeriodReport(period.span, period.at, period.verdicts)
    values = sum(sketch.cells) if sketch.cells else sketch.moments.count
    return PeriodReport(
        period.span,
        period.at,
        period.verdicts,
        sketch.moments.mean if sketch.moments.count else None,
        quantiles_of(sketch.kll, QUANTILES),
        sketch.missing / max(1, values + sketch.missing),
    )
