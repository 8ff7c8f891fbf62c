"""Records asked about one at a time, without a task for each: the steps of the plane, from callback to callback.

- The steps are the plane's own - the quota, the cache, the batcher, the ledger, in that order - and so is every answer.
- What would have to be waited for beside the batch and the ledger is not taken: then nothing has happened, and whoever
  asked does so by way of the plane.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from discern.core.clock import Clock, utc_now
from discern.core.errors import CallerError, Overloaded
from discern.core.verdict import Verdict
from discern.detection.batching import Assessed, Batcher
from discern.detection.caching import AnswerCache, AnswerKey
from discern.detection.committing import Committer
from discern.detection.service import Plane, answer_key, recalled
from discern.detection.types import DetectionRequest, LedgerEntry, Seen
from discern.detectors.assessment import Detector
from discern.inputs.faces import FaceLocator
from discern.inputs.spec import RecordSpec
from discern.quotas.ports import Meter
from discern.quotas.types import Amount

_ONE = Amount(1)
Done = Callable[[Verdict | BaseException], None]
"""Takes the verdict, which is on the ledger, or what went wrong."""


class DirectRecords:
    """Asks about records that are in memory. For one event loop."""

    def __init__(
        self,
        plane: Plane,
        cache: AnswerCache,
        batcher: Batcher,
        committer: Committer,
        locator: FaceLocator,
        meter: Meter,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self._plane = plane
        self._cache = cache
        self._batcher = batcher
        self._committer = committer
        self._locator = locator
        self._meter = meter
        self._clock = clock

    def ask(self, request: DetectionRequest, detector: Detector, content: bytes, done: Done) -> bool:
        """Tell whether `done` will be called; where it will not, nothing has happened."""
        spec = detector.manifest.input
        if not isinstance(spec, RecordSpec):
            return False
        started = time.perf_counter()
        try:
            row = self._plane.reader(detector, spec).from_json(content)
        except CallerError:
            return False
        key = known = None
        if not self._cache.is_off:
            key = answer_key(request, detector, row.facts.sha256, self._locator)
            known = self._cache.at_hand(key)
        asks_others = known is None and self._cache.is_shared
        if asks_others or not self._meter.take_at_once(request.principal.workspace, _ONE):
            return False
        if known is not None:
            self._record(request, recalled(known, request, self._clock, started), done)
            return True
        try:
            self._batcher.submit(detector, row, _Assessing(self, request, detector, key, row.values, done))
        except Overloaded:
            self.give_back(request)
            return False
        self._plane.watch.see_record(request.principal, request.detector, row.values)
        if key is not None:
            self._cache.count_miss(request.principal.workspace)
        return True

    def conclude(
        self,
        request: DetectionRequest,
        detector: Detector,
        key: AnswerKey | None,
        found: Assessed,
        done: Done,
        seen: Seen,
    ) -> None:
        """Put what the detector found into a verdict, remember it and write it down."""
        verdict = self._plane.verdict(request, detector, found)
        if key is not None:
            self._cache.put(key, verdict)
        self._record(request, verdict, done, seen)

    def give_back(self, request: DetectionRequest) -> None:
        """Count a question as not asked: it came to no verdict."""
        self._meter.give_back(request.principal.workspace, _ONE)

    def _record(self, request: DetectionRequest, verdict: Verdict, done: Done, seen: Seen | None = None) -> None:
        entry = LedgerEntry(verdict, request.principal.id, None, seen)
        self._committer.submit([entry], _Recording(self, request, verdict, done))


class _Assessing:
    """Takes what the batcher has for one record. Nobody gives up: a client that is gone is found out in the end."""

    __slots__ = ("_detector", "_done", "_key", "_records", "_request", "_seen")

    def __init__(
        self,
        records: DirectRecords,
        request: DetectionRequest,
        detector: Detector,
        key: AnswerKey | None,
        seen: Seen,
        done: Done,
    ) -> None:
        self._records = records
        self._request = request
        self._detector = detector
        self._key = key
        self._seen = seen
        self._done = done

    def done(self) -> bool:
        return False

    def set_result(self, found: Assessed, /) -> None:
        self._records.conclude(self._request, self._detector, self._key, found, self._done, self._seen)

    def set_exception(self, exception: BaseException, /) -> None:
        self._records.give_back(self._request)
        self._done(exception)


class _Recording:
    """Takes what the committer has for one verdict."""

    __slots__ = ("_done", "_records", "_request", "_verdict")

    def __init__(self, records: DirectRecords, request: DetectionRequest, verdict: Verdict, done: Done) -> None:
        self._records = records
        self._request = request
        self._verdict = verdict
        self._done = done

    def done(self) -> bool:
        return False

    def set_result(self, _: None, /) -> None:
        self._done(self._verdict)

    def set_exception(self, exception: BaseException, /) -> None:
        self._records.give_back(self._request)
        self._done(exception)
