"""From a dataset to scores: decoded and scored by several threads at once, in bounded memory, resumed after a kill.

- Inputs go the way of a detection: the same decoding, limits and crops, and the same models.
- What is scored together is cut by the dataset alone, so that the scores are the same to the bit for any number of
  threads and after any interruption.
- An item that cannot be judged has no score and a reason; it changes nothing for the others.
- An item whose content is not what its digest says ends the run.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from discern.core.errors import CallerError, DiscernError, UnsupportedInput
from discern.core.verdict import StageReading
from discern.detectors.assessment import conclude, samples_of
from discern.detectors.cascade import RowOutcome
from discern.detectors.pooling import pool
from discern.detectors.scoring import DECISIONS, NOT_DEGRADED, UNDECIDED, Scores, decisions_at
from discern.detectors.timeline import events_of
from discern.evaluation.datasets import changed
from discern.evaluation.journal import Judged, Scoresheet
from discern.evaluation.ports import Labelled, MediaPiece, Piece, Progress, RowsPiece, Watcher
from discern.evaluation.rules_exits import deciding_stage, with_exits
from discern.evaluation.sources import locator_for
from discern.evaluation.types import ClipEvents, Scored
from discern.evaluation.types_datasets import Change
from discern.inputs.prepare import prepare_media
from discern.inputs.source import opened
from discern.inputs.spec import ImageSpec, RecordSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.detectors.assessment import Detector
    from discern.evaluation.types import Item
    from discern.inputs.faces import FaceLocator
    from discern.inputs.types import InputLimits, MediaContent, Prepared

_Number = TypeVar("_Number", bound=np.generic)
_WAITING_PER_THREAD = 2
_ROWS_TOGETHER = 1024


@dataclass(frozen=True, slots=True)
class Scoring:
    """What a run is scored with. `detector` has its exits on; `threads` work at the same time."""

    detector: Detector
    limits: InputLimits
    locator: FaceLocator
    threads: int


def score_source(source: Labelled, scoring: Scoring, sheet: Scoresheet, watch: Watcher) -> tuple[Scored, int]:
    """Return the scores of a dataset, and how many of its rows had been scored before.

    What is scored is kept in `sheet` as it comes. Raises UnsupportedInput where the detector takes no such items, and
    DatasetRefused for an item whose content has changed.
    """
    examples = source.examples
    manifest = scoring.detector.manifest
    scorer = _Scorer(scoring)
    kept = list(sheet.pieces())
    resumed = sum(judged.rows for judged in kept)
    rows, total, started = resumed, len(examples.ids), time.monotonic()
    watch(Progress(examples.dataset, rows, total, resumed, 0.0))
    for judged in _in_order(scorer.judge, source.pieces(resumed), scoring.threads):
        sheet.keep(judged)
        kept.append(judged)
        rows += judged.rows
        watch(Progress(examples.dataset, rows, total, resumed, time.monotonic() - started))
    if rows != total:
        raise CallerError(
            f"{examples.dataset} holds {rows} items and its manifest names {total}.",
            mend="Freeze the dataset again, or put back what is missing.",
        )
    errors = {judged.start + row: reason for judged in kept for row, reason in judged.errors.items()}
    events = {judged.start + row: seen for judged in kept for row, seen in judged.events.items()}
    stages = len(manifest.stages)
    return (
        Scored(
            examples=examples,
            detector=manifest.name,
            version=manifest.version,
            bundle_sha256=scoring.detector.digest,
            stages=tuple(stage.name for stage in manifest.stages),
            score=_joined([judged.score for judged in kept], np.empty(0)),
            stage_scores=_joined([judged.stage_scores for judged in kept], np.empty((0, stages))),
            decided_by=_joined([judged.decided_by for judged in kept], np.empty(0, np.int16)),
            decision=_joined([judged.decision for judged in kept], np.empty(0, np.int8)),
            alone=_joined([judged.alone for judged in kept], np.empty(0, np.int8)),
            errors=errors,
            milliseconds=_joined([judged.milliseconds for judged in kept], np.empty((0, stages))),
            events=events,
        ),
        resumed,
    )


class _Scorer:
    """Judges pieces with one detector. Thread-safe."""

    def __init__(self, scoring: Scoring) -> None:
        self._manifest = scoring.detector.manifest
        self._every_stage = scoring.detector.without_exits()
        self._limits = scoring.limits
        self._locator = scoring.locator
        self._stages = len(self._manifest.stages)

    def judge(self, piece: Piece) -> Judged:
        """Return what one piece comes to."""
        return self._records(piece) if isinstance(piece, RowsPiece) else self._media(piece)

    def _records(self, piece: RowsPiece) -> Judged:
        if not isinstance(self._manifest.input, RecordSpec):
            raise self._unfit("records")
        scores = self._every_stage.score_rows(piece.matrix, chunk_rows=_ROWS_TOGETHER)
        stage_scores = scores.stage_scores.copy()
        refused = list(piece.refused)
        stage_scores[refused] = np.nan
        outcome = with_exits(stage_scores, self._manifest, piece.matrix)
        judged = Judged(
            piece.start,
            outcome.score,
            stage_scores,
            outcome.decided_by,
            outcome.decision,
            outcome.alone,
            {},
            _shares(scores),
        )
        self._note_failures(judged, scores, piece.refused)
        return judged

    def _media(self, piece: MediaPiece) -> Judged:
        spec = self._manifest.input
        if not isinstance(spec, ImageSpec):
            raise self._unfit("images or clips")
        judged = _nothing(piece.start, piece.rows, self._stages)
        prepared: dict[int, Prepared] = {}
        for row, (item, content) in enumerate(zip(piece.items, piece.contents, strict=True)):
            found = self._prepared(spec, item, content)
            if isinstance(found, DiscernError):
                judged.errors[row] = f"{found.code}: {found.detail}"
            else:
                prepared[row] = found
        images = {row: one for row, one in prepared.items() if not one.seconds}
        if images:
            places = np.fromiter(images, np.intp)
            scores = self._every_stage.score_rows(np.concatenate([one.tensor for one in images.values()]))
            self._place_images(judged, places, scores)
        for row, one in prepared.items():
            if one.seconds:
                self._place_clip(judged, row, one)
        return judged

    def _prepared(self, spec: ImageSpec, item: Item, content: MediaContent) -> Prepared | CallerError:
        locator = locator_for(item, self._locator)
        fault: CallerError | None = None
        try:
            video = self._manifest.video
            prepared = prepare_media(content, spec, video, self._limits, locator, item.frames, sketched=False)
            digest = prepared.facts.sha256
        except CallerError as error:
            fault = error
            with opened(content) as source:
                digest = source.sha256()
        if digest != item.sha256:
            raise changed([Change(item.id, "changed")])
        return fault or prepared

    def _place_images(self, judged: Judged, places: NDArray[np.intp], scores: Scores) -> None:
        outcome = with_exits(scores.stage_scores, self._manifest)
        judged.score[places] = outcome.score
        judged.stage_scores[places] = scores.stage_scores
        judged.decided_by[places] = outcome.decided_by
        judged.decision[places] = outcome.decision
        judged.alone[places] = outcome.alone
        judged.milliseconds[places] = _shares(scores)
        for row in np.flatnonzero(np.isnan(outcome.score)).tolist():
            judged.errors[int(places[row])] = f"detector_failed: {scores.faults.get(row, 'no score')}"

    def _place_clip(self, judged: Judged, row: int, prepared: Prepared) -> None:
        scores = self._every_stage.score_rows(prepared.tensor)
        frames, unknown, length = self._frames(scores), prepared.unknown_seconds, prepared.facts.seconds or 0.0
        try:
            assessment = conclude(frames, self._manifest, prepared.seconds, unknown=unknown, length=length)
        except DiscernError as error:
            judged.errors[row] = f"{error.code}: {error.detail}"
            return
        names = [stage.name for stage in self._manifest.stages]
        video = self._manifest.video
        assert video is not None  # noqa: S101 - without it a clip is not prepared
        for stage in range(self._stages):
            answered = scores.stage_scores[:, stage]
            answered = answered[~np.isnan(answered)]
            if len(answered):
                judged.stage_scores[row, stage] = pool(answered.tolist(), video)
        judged.score[row] = assessment.score
        judged.decided_by[row] = names.index(deciding_stage(assessment.decided_by, self._manifest))
        judged.decision[row] = DECISIONS.index(assessment.decision)
        judged.alone[row] = decisions_at(judged.stage_scores[row, -1:], self._manifest.decision.thresholds)[0]
        judged.milliseconds[row] = _shares(scores).sum(axis=0)
        rule = self._manifest.stream
        if rule is not None and rule.events:
            samples = samples_of(frames, prepared.seconds, unknown)
            seen = events_of(samples, max(length, samples[-1].at), rule)
            kinds = {name: tuple((one.start, one.seconds) for one in found) for name, found in seen.items()}
            judged.events[row] = ClipEvents(max(length, samples[-1].at), kinds)

    def _frames(self, scores: Scores) -> list[RowOutcome]:
        """Return what the frames of a clip come to with exits on."""
        names = [stage.name for stage in self._manifest.stages]
        outcome = with_exits(scores.stage_scores, self._manifest)
        frames: list[RowOutcome] = []
        for row, (score, last, degraded) in enumerate(
            zip(outcome.score.tolist(), outcome.decided_by.tolist(), outcome.degraded.tolist(), strict=True)
        ):
            if np.isnan(score):
                frames.append(RowOutcome(None, names[0], (), error=scores.faults.get(row, "no score")))
                continue
            readings = tuple(
                StageReading(names[stage], float(scores.stage_scores[row, stage]), 0.0) for stage in range(last + 1)
            )
            failed = None if degraded == NOT_DEGRADED else names[degraded]
            frames.append(RowOutcome(score, names[last], readings, degraded=failed))
        return frames

    def _note_failures(self, judged: Judged, scores: Scores, refused: dict[int, str]) -> None:
        for row in np.flatnonzero(np.isnan(judged.score)).tolist():
            if row in refused:
                judged.errors[row] = f"invalid_record: {refused[row]}"
            else:
                judged.errors[row] = f"detector_failed: {scores.faults.get(row, 'no score')}"

    def _unfit(self, what: str) -> UnsupportedInput:
        name, kind = self._manifest.name, self._manifest.input.kind
        return UnsupportedInput(f"{name} takes {kind}s, and the dataset holds {what}.", mend="Name another dataset.")


def _in_order(judge: Callable[[Piece], Judged], pieces: Iterator[Piece], threads: int) -> Iterator[Judged]:
    """Yield what the pieces come to, in their order; so many wait at a time that memory stays bounded."""
    with ThreadPoolExecutor(threads, thread_name_prefix="evaluation") as pool_of_threads:
        waiting: deque[Future[Judged]] = deque()
        try:
            for piece in pieces:
                waiting.append(pool_of_threads.submit(judge, piece))
                if len(waiting) >= threads * _WAITING_PER_THREAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _nothing(start: int, rows: int, stages: int) -> Judged:
    return Judged(
        start,
        np.full(rows, np.nan),
        np.full((rows, stages), np.nan),
        np.zeros(rows, np.int16),
        np.full(rows, UNDECIDED, np.int8),
        np.full(rows, UNDECIDED, np.int8),
        {},
        np.full((rows, stages), np.nan),
    )


def _shares(scores: Scores) -> NDArray[np.float64]:
    """Return for each row and stage the milliseconds it took, which a chunk's rows share alike."""
    shares = [
        milliseconds / rows if rows else np.nan
        for rows, milliseconds in zip(scores.stage_rows, scores.stage_milliseconds, strict=True)
    ]
    return np.tile(np.array(shares), (len(scores.score), 1))


def _joined(columns: list[NDArray[_Number]], empty: NDArray[_Number]) -> NDArray[_Number]:
    return np.concatenate(columns) if columns else empty
