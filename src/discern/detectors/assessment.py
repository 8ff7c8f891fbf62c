"""A loaded detector: prepared inputs in, assessments out.

- One input's assessment does not depend on what else is assessed with it (to 1e-6); a failure is the answer of its
  own input only.
- A degraded assessment is always `review`, whatever its score.
- A clip is degraded when any of its frames is: the frame might have changed the pooled score.
- `score`, `decided_by` and the readings add up: `decided_by` is a stage with a score, rows are counted once per stage.
- A clip that is judged by windows (`pool: windows`) is flagged where a stream of the same frames would be.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from discern.core.errors import BundleRefused, DetectorFailed, DiscernError, InternalError
from discern.core.verdict import FrameScore, StageReading, Thresholds, Timeline
from discern.detectors.cascade import Cascade, RowOutcome
from discern.detectors.guarding import STAGE_PATIENCE, GuardedModel
from discern.detectors.pooling import pool, pooled_frames
from discern.detectors.refusal import refused
from discern.detectors.runtime import StageFailed, StageModel
from discern.detectors.scoring import DECISIONS, Scores
from discern.detectors.thresholds import decide
from discern.detectors.timeline import Judgement, Sample, judge_clip
from discern.inputs.spec import ImageSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from discern.core.breakers import Breakers
    from discern.core.verdict import Decision, Thresholds
    from discern.detectors.bundle import Bundle
    from discern.detectors.manifest import Manifest, Stage
    from discern.inputs.spec import VideoSpec
    from discern.inputs.types import Prepared


class Assessment(msgspec.Struct, frozen=True, gc=False):
    """What a detector makes of one input: the part of a verdict that follows from the bundle and the input alone.

    `score` is calibrated, in [0, 1]; `label` is the class that `decision` asserts, None for review. `degraded` names
    the first stage of the cascade that failed on some of the input. `frames` is empty unless the input is a clip.
    `thresholds` are the input's own, None where the manifest has the same for every input. `thresholds` and `timeline`
    are there where a clip is judged by windows.
    """

    score: float
    decision: Decision
    label: str | None
    decided_by: str
    stages: tuple[StageReading, ...]
    degraded: str | None = None
    frames: tuple[FrameScore, ...] = ()
    thresholds: Thresholds | None = None
    timeline: Timeline | None = None


class Detector:
    """One bundle's models, wired and ready; may be used by several threads at once.

    `models` holds one opened model per stage name, of `variant` where that is not None. With `early_exits` off every
    stage answers for every row.
    Raises BundleRefused when the models do not fit the manifest.
    """

    def __init__(
        self,
        manifest: Manifest,
        digest: str,
        models: Mapping[str, StageModel],
        *,
        variant: str | None = None,
        early_exits: bool = True,
    ) -> None:
        self.manifest = manifest
        self.digest = digest
        self.variant = variant
        self._models = models
        self._cascade = Cascade(manifest, models, early_exits=early_exits)
        spec = manifest.input
        self._dtype = np.dtype(np.uint8 if isinstance(spec, ImageSpec) else np.float32)
        self._row_shape = (spec.height, spec.width, 3) if isinstance(spec, ImageSpec) else (len(spec.fields),)
        self._labels = _labels(manifest)

    def assess(self, prepared: Prepared) -> Assessment:
        """Return the assessment of one input.

        Raises DetectorFailed when the first stage failed on all of it, InternalError when its tensor is not what the
        manifest says.
        """
        result = self.assess_many([prepared])[0]
        if isinstance(result, DiscernError):
            raise result
        return result

    def assess_many(self, prepared: Sequence[Prepared]) -> list[Assessment | DiscernError]:
        """Return per input, in order, its assessment or the error `assess` would raise, from one run of the cascade."""
        faults = [self._mismatch(one) for one in prepared]
        tensors = [one.tensor for one, fault in zip(prepared, faults, strict=True) if fault is None]
        if not tensors:
            return [fault for fault in faults if fault is not None]
        scores = self._cascade.score(tensors[0] if len(tensors) == 1 else np.concatenate(tensors))
        if len(tensors) == len(prepared) and not any(one.seconds for one in prepared):
            return self._concluded_rows(scores)
        outcomes = self._cascade.outcomes(scores)
        results: list[Assessment | DiscernError] = []
        start = 0
        for one, fault in zip(prepared, faults, strict=True):
            if fault is not None:
                results.append(fault)
                continue
            end = start + len(one.tensor)
            results.append(_concluded(outcomes[start:end], self.manifest, one))
            start = end
        return results

    def assess_rows(self, rows: NDArray[Any]) -> list[Assessment | DiscernError]:
        """Do the same for rows that are an input each, such as records. `rows` and errors are those of `score_rows`."""
        return self._concluded_rows(self.score_rows(rows))

    def score_rows(self, rows: NDArray[Any], *, chunk_rows: int | None = None) -> Scores:
        """Return the same as arrays, without an object for any row: for many rows at once.

        `rows` is float32 [n, fields] in the order of the manifest's fields, NaN where a value misses, or uint8
        [n, height, width, 3]; each row is an input of its own, and n may be 0. `chunk_rows` is how many run at a time,
        None for as many as suit answers that somebody waits for.
        Raises InternalError when the rows are not what the manifest says.
        """
        if rows.dtype != self._dtype or rows.ndim == 0 or rows.shape[1:] != self._row_shape:
            raise self._misshapen(rows, ["rows", *self._row_shape])
        return self._cascade.score(rows, chunk_rows=chunk_rows)

    @property
    def has_embedding(self) -> bool:
        """Whether `embedding` has something to return."""
        return self._cascade.has_embedding

    def embedding(self, rows: NDArray[Any]) -> NDArray[np.float32] | None:
        """Return what the first stage makes of rows before it judges them, float32 [rows, dimensions], or None.

        `rows` are as for `score_rows`. Raises InternalError when they are not what the manifest says.
        """
        if rows.dtype != self._dtype or rows.ndim == 0 or rows.shape[1:] != self._row_shape:
            raise self._misshapen(rows, ["rows", *self._row_shape])
        return self._cascade.embedding(rows)

    def _concluded_rows(self, scores: Scores) -> list[Assessment | DiscernError]:
        manifest = self.manifest
        names = [stage.name for stage in manifest.stages]
        if len(names) > 1 or scores.faults or scores.applied is not None:
            return [_concluded([outcome], manifest, None) for outcome in self._cascade.outcomes(scores)]
        # One stage that answered every row: most detectors of records, where what a row costs is felt.
        name, share, labels = names[0], scores.shares()[0], self._labels
        decisions = map(DECISIONS.__getitem__, scores.decision.tolist())
        return [
            Assessment(score, decision, labels[decision], name, (StageReading(name, score, share),))
            for score, decision in zip(scores.score.tolist(), decisions, strict=True)
        ]

    def _mismatch(self, prepared: Prepared) -> InternalError | None:
        """Return what is wrong with a tensor that was not prepared by this manifest's `input`, or None."""
        tensor, seconds = prepared.tensor, prepared.seconds
        rows = len(seconds) if seconds else 1
        if tensor.dtype != self._dtype or tensor.shape != (rows, *self._row_shape):
            return self._misshapen(tensor, [rows, *self._row_shape])
        if seconds and self.manifest.video is None:
            return _takes_no_video(self.manifest)
        return None

    def _misshapen(self, tensor: NDArray[Any], wanted: Sequence[int | str]) -> InternalError:
        listed = ", ".join(map(str, wanted))
        return InternalError(
            f"{self.manifest.name} takes a tensor of {self._dtype} [{listed}], "
            f"but one of {tensor.dtype} {list(tensor.shape)} arrived."
        )

    def without_exits(self) -> Detector:
        """Return a detector on the same opened models whose every stage answers for every row."""
        return Detector(self.manifest, self.digest, self._models, variant=self.variant, early_exits=False)


def load_detector(
    bundle: Bundle,
    *,
    threads: int = 1,
    breakers: Breakers | None = None,
    tell: Callable[[str, str], None] = lambda _name, _reason: None,
) -> Detector:
    """Return the detector of an opened bundle, of the variant it stands at.

    `threads` is how many threads one run of one model may use. With `breakers` each stage has a guard among them, and
    `tell` hears the guard's name, and why, when a stage's session was replaced.
    Raises BundleRefused, naming the file, when a model cannot be read, opened, or does not fit the manifest.
    """
    models = {stage.name: _opened(bundle, stage, threads) for stage in bundle.manifest.stages}
    if breakers is not None:
        models = {
            stage.name: GuardedModel(
                models[stage.name],
                breakers.guard("stage", f"{bundle.manifest.name}/{stage.name}", STAGE_PATIENCE),
                partial(_reopened, bundle, stage, threads),
                tell,
            )
            for stage in bundle.manifest.stages
        }
    return Detector(bundle.manifest, bundle.digest, models, variant=bundle.variant)


def conclude(
    outcomes: Sequence[RowOutcome],
    manifest: Manifest,
    seconds: Sequence[float] = (),
    *,
    unknown: Sequence[float] = (),
    length: float = 0.0,
) -> Assessment:
    """Return the assessment that the outcomes of one input's rows amount to.

    `seconds` holds the time of each row in a clip, and is empty for an image or a record, which has one row; `unknown`
    those of frames that have no row, `length` the seconds of the clip. A clip's score is the pool of its frames' scores
    by `manifest.video`; it is decided by the stage that decided most of the frames in the pool (the later stage on a
    tie), or by the worst of its windows.
    Raises DetectorFailed when the first stage failed on every row.
    """
    scored = [(outcome.score, outcome.decided_by) for outcome in outcomes if outcome.score is not None]
    if not scored:
        raise _detector_failed(outcomes, manifest)
    if not seconds:
        score, decided_by = scored[0]
        only = outcomes[0]
        return _assessment(score, decided_by, only.readings, only.degraded, (), manifest, only.thresholds)
    if manifest.video is None:
        raise _takes_no_video(manifest)
    scores = [score for score, _ in scored]
    frames = tuple(
        FrameScore(second, outcome.score, outcome.decided_by)
        for second, outcome in zip(seconds, outcomes, strict=True)
        if outcome.score is not None
    )
    if manifest.video.pool == "windows" and manifest.stream is not None:
        samples = samples_of(outcomes, seconds, unknown)
        found = judge_clip(samples, max(length, samples[-1].at), manifest.stream)
        return _by_windows(found, outcomes, frames, manifest, manifest.video)
    deciders = [scored[frame][1] for frame in pooled_frames(scores, manifest.video)]
    return _assessment(
        pool(scores, manifest.video),
        _most_deciding(deciders, manifest),
        _pooled_readings(outcomes, manifest, manifest.video),
        _first_failing(outcomes, manifest),
        frames,
        manifest,
    )


def samples_of(outcomes: Sequence[RowOutcome], seconds: Sequence[float], unknown: Sequence[float] = ()) -> list[Sample]:
    """Return the frames of a clip in their order, with what is known of each; arguments as for `conclude`."""
    samples = [Sample(second, _scores(outcome)) for second, outcome in zip(seconds, outcomes, strict=True)]
    return sorted([*samples, *(Sample(second, None) for second in unknown)], key=lambda one: one.at)


def _concluded(
    outcomes: Sequence[RowOutcome], manifest: Manifest, prepared: Prepared | None
) -> Assessment | DiscernError:
    try:
        if prepared is None or not prepared.seconds:
            return conclude(outcomes, manifest)
        length = prepared.facts.seconds or 0.0
        return conclude(outcomes, manifest, prepared.seconds, unknown=prepared.unknown_seconds, length=length)
    except DetectorFailed as failure:
        return failure


def _assessment(
    score: float,
    decided_by: str,
    stages: tuple[StageReading, ...],
    degraded: str | None,
    frames: tuple[FrameScore, ...],
    manifest: Manifest,
    own: Thresholds | None = None,
) -> Assessment:
    decision: Decision = "review" if degraded else decide(score, own or manifest.decision.thresholds)
    return Assessment(score, decision, _labels(manifest)[decision], decided_by, stages, degraded, frames, own)


def _scores(outcome: RowOutcome) -> dict[str | None, float] | None:
    if outcome.score is None:
        return None
    stages = {reading.name: reading.score for reading in outcome.readings if reading.score is not None}
    return {None: outcome.score} | stages


def _by_windows(
    found: Judgement,
    outcomes: Sequence[RowOutcome],
    frames: tuple[FrameScore, ...],
    manifest: Manifest,
    video: VideoSpec,
) -> Assessment:
    degraded = _first_failing(outcomes, manifest) or found.degraded
    decision: Decision = "review" if degraded else found.decision
    return Assessment(
        found.score,
        decision,
        _labels(manifest)[decision],
        found.decided_by,
        _pooled_readings(outcomes, manifest, video),
        degraded,
        frames,
        found.thresholds,
        found.timeline,
    )


def _labels(manifest: Manifest) -> dict[Decision, str | None]:
    return {"clear": manifest.classes.negative, "review": None, "flag": manifest.classes.positive}


def _most_deciding(deciders: Sequence[str], manifest: Manifest) -> str:
    counts = Counter(deciders)
    order = [stage.name for stage in manifest.stages]
    return max(counts, key=lambda name: (counts[name], order.index(name)))


def _pooled_readings(outcomes: Sequence[RowOutcome], manifest: Manifest, video: VideoSpec) -> tuple[StageReading, ...]:
    readings = []
    for stage in manifest.stages:
        seen = [reading for outcome in outcomes for reading in outcome.readings if reading.name == stage.name]
        if not seen:
            continue
        scores = [reading.score for reading in seen if reading.score is not None]
        errors = [reading.error for reading in seen if reading.error is not None]
        readings.append(
            StageReading(
                stage.name,
                pool(scores, video) if scores else None,
                round(sum(reading.milliseconds for reading in seen), 3),
                len(seen),
                f"{len(errors)} of {len(seen)} frames: {errors[0]}" if errors else None,
            )
        )
    return tuple(readings)


def _first_failing(outcomes: Sequence[RowOutcome], manifest: Manifest) -> str | None:
    failing = {outcome.degraded for outcome in outcomes}
    if any(outcome.score is None for outcome in outcomes):
        failing.add(manifest.stages[0].name)
    return next((stage.name for stage in manifest.stages if stage.name in failing), None)


def _detector_failed(outcomes: Sequence[RowOutcome], manifest: Manifest) -> DetectorFailed:
    stage, reason = manifest.stages[0].name, outcomes[0].error or "no reason given"
    return DetectorFailed(
        f"{manifest.name}: stage {stage} gave no score: {reason}.",
        mend="`discern detector check` on its bundle shows what it cannot answer.",
        detector=manifest.name,
        stage=stage,
        reason=reason,
    )


def _opened(bundle: Bundle, stage: Stage, threads: int) -> StageModel:
    file = bundle.model_of(stage)
    content = bundle.read(file)
    try:
        return StageModel(stage.name, content, threads=threads, probability=stage.probability)
    except StageFailed as failure:
        raise refused(file, failure.reason) from failure


def _reopened(bundle: Bundle, stage: Stage, threads: int) -> StageModel:
    """Do the same for one that was opened before. Raises StageFailed."""
    try:
        return _opened(bundle, stage, threads)
    except (BundleRefused, OSError) as error:
        raise StageFailed(stage.name, f"its file cannot be read again: {error}") from error


def _takes_no_video(manifest: Manifest) -> InternalError:
    return InternalError(f"{manifest.name}: frames of a clip arrived, but the manifest has no `video`.")
