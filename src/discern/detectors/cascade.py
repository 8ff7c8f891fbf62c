"""The cascade: cheap stages decide clear rows, the rest go on.

- Rows never influence each other: a row gets the score it gets alone (to 1e-6), whatever else is in the batch and in
  which order.
- A row leaves after the first stage whose score is below `clear_below` or at least `flag_above`; the last stage keeps
  none.
- The rows that reach a stage are the rows that the stage before left open; each has a reading of every stage it
  reached.
- A later stage that fails on a row leaves it degraded, with the score of the stage before. A first stage that fails
  leaves no score. Neither spoils the row's neighbours: a batch that fails is run again row by row.
- Memory is bounded: rows run in chunks, which the caller does not see.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from discern.core.tracing import Piece, Trace, current_trace
from discern.core.verdict import StageReading
from discern.detectors.calibration import calibrator
from discern.detectors.refusal import refused
from discern.detectors.runtime import ROUNDING, StageFailed, StageModel
from discern.detectors.scoring import NOT_DEGRADED, Scores
from discern.detectors.thresholds import bands_of
from discern.inputs.spec import ImageSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from discern.core.errors import BundleRefused
    from discern.core.tracing import Attribute
    from discern.core.verdict import Thresholds
    from discern.detectors.calibration import Calibrate
    from discern.detectors.manifest import Manifest, Stage
    from discern.detectors.runtime import TensorInfo
    from discern.inputs.spec import RecordSpec

EMBEDDING = "embedding"
"""The output of a first stage that says what it makes of an input before it judges it."""
CHUNK_ROWS = 256
CHUNK_BYTES = 640_000
"""Rows of one chunk hold at most this many bytes of input (4 images of 224 x 224), but always one row.

What runs per pixel gains nothing from more rows, and loses time to memory; what runs per record gains from hundreds.
"""


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """What the cascade made of one row.

    `score` is the calibrated score of `decided_by`, the last stage that answered; None when the first stage failed,
    and then `error` says why. `degraded` names the later stage that failed. `readings` follow the stages the row
    reached. `thresholds` are the row's own, None where the manifest has the same for every row.
    """

    score: float | None
    decided_by: str
    readings: tuple[StageReading, ...]
    degraded: str | None = None
    error: str | None = None
    thresholds: Thresholds | None = None


@dataclass(frozen=True, slots=True)
class _Feed:
    """Where a graph input comes from, and the type and number of dimensions it wants."""

    tensor: str
    source: str
    dtype: np.dtype[Any]
    as_column: bool


@dataclass(frozen=True, slots=True)
class _Step:
    """A stage with its model and its wiring. `outputs` are the graph outputs that later stages take."""

    name: str
    model: StageModel
    feeds: tuple[_Feed, ...]
    outputs: tuple[str, ...]
    calibrate: Calibrate
    clear_below: float
    flag_above: float


class _Answers(NamedTuple):
    """The raw `probability` and other `outputs` of the rows `answered`, None for all; `faults` of the rest."""

    answered: NDArray[np.intp] | None
    probability: NDArray[np.float64]
    outputs: dict[str, NDArray[Any]]
    faults: dict[int, str]


@dataclass(slots=True)
class _Tally:
    """What is known of the rows of a run by now: see Scores."""

    stage_scores: NDArray[np.float64]
    degraded: NDArray[np.int16]
    faults: dict[int, str]
    stage_rows: list[int]
    stage_milliseconds: list[float]


class Cascade:
    """The stages of one bundle, wired.

    With `early_exits` off every stage sees every row, which is how each stage is measured by itself. A cascade may be
    run by several threads at once.
    Raises BundleRefused when a model's inputs and outputs do not fit what the manifest says.
    """

    def __init__(self, manifest: Manifest, models: Mapping[str, StageModel], *, early_exits: bool = True) -> None:
        self._steps = tuple(
            _wired(manifest, position, models, early_exits=early_exits) for position in range(len(manifest.stages))
        )
        self._thresholds = manifest.decision.thresholds
        self._bands = bands_of(manifest)
        self._about: dict[str, Attribute] = {"discern.detector": manifest.name, "discern.version": manifest.version}

    def score(self, rows: NDArray[Any], *, chunk_rows: int | None = None) -> Scores:
        """Return the scores of the rows, in order. `rows` is a `Prepared.tensor`, [rows, ...]; it is not changed.

        At most `chunk_rows` rows run at a time, None for as many as suit answers that somebody waits for.
        """
        count, stages = len(rows), len(self._steps)
        tally = _Tally(
            np.empty((count, stages)), np.full(count, NOT_DEGRADED, np.int16), {}, [0] * stages, [0.0] * stages
        )
        if stages > 1:
            tally.stage_scores.fill(np.nan)
        size = _chunk_size(rows, CHUNK_ROWS if chunk_rows is None else chunk_rows)
        if count <= size:
            if count:
                self._score_chunk(rows, 0, tally)
        else:
            for start in range(0, count, size):
                self._score_chunk(rows[start : start + size], start, tally)
        score, decided_by = _last_answers(tally.stage_scores)
        return Scores(
            score,
            decided_by,
            tally.degraded,
            tally.stage_scores,
            tally.faults,
            tuple(tally.stage_rows),
            tuple(tally.stage_milliseconds),
            self._thresholds,
            None if self._bands is None else self._bands.applied(rows),
        )

    def run(self, rows: NDArray[Any]) -> list[RowOutcome]:
        """Return the outcome of every row, in order. `rows` as for `score`."""
        return self.outcomes(self.score(rows))

    @property
    def has_embedding(self) -> bool:
        """Whether the first stage has an output `embedding` of floats [rows, dimensions]."""
        outputs = self._steps[0].model.outputs
        return any(info.name == EMBEDDING and info.is_float and len(info.shape) == 2 for info in outputs)

    def embedding(self, rows: NDArray[Any]) -> NDArray[np.float32] | None:
        """Return that output for rows, float32 [rows, dimensions]; None where there is none, or the stage fails."""
        step = self._steps[0]
        if not self.has_embedding:
            return None
        try:
            found = step.model.run({feed.tensor: _fed(feed, rows) for feed in step.feeds}, (EMBEDDING,))[EMBEDDING]
        except StageFailed:
            return None
        return found.astype(np.float32)

    def outcomes(self, scores: Scores) -> list[RowOutcome]:
        """Return the scores as an object for each row."""
        names, shares = [step.name for step in self._steps], scores.shares()
        if len(names) == 1 and not scores.faults and scores.applied is None:
            name, share = names[0], shares[0]
            return [RowOutcome(score, name, (StageReading(name, score, share),)) for score in scores.score.tolist()]
        outcomes: list[RowOutcome] = []
        columns = zip(
            scores.score.tolist(),
            scores.decided_by.tolist(),
            scores.degraded.tolist(),
            scores.stage_scores.tolist(),
            strict=True,
        )
        for row, (score, last, degraded, stage_scores) in enumerate(columns):
            fault = scores.faults.get(row)
            if fault is not None and degraded == NOT_DEGRADED:
                reading = StageReading(names[0], None, shares[0], error=fault)
                outcomes.append(RowOutcome(None, names[0], (reading,), error=fault))
                continue
            readings = tuple(map(StageReading, names[: last + 1], stage_scores, shares))
            own = None if scores.applied is None else scores.applied.of(row)
            if fault is None:
                outcomes.append(RowOutcome(score, names[last], readings, thresholds=own))
            else:
                failed = StageReading(names[degraded], None, shares[degraded], error=fault)
                outcomes.append(RowOutcome(score, names[last], (*readings, failed), names[degraded], None, own))
        return outcomes

    def _score_chunk(self, rows: NDArray[Any], start: int, tally: _Tally) -> None:
        """Run one chunk; its first row is row `start` of the run."""
        places: NDArray[np.intp] | None = None  # where the rows that travel on stand in the run; None: all of the chunk
        count = len(rows)
        sources: dict[str, NDArray[Any]] = {"input": rows}
        trace = current_trace()
        last = len(self._steps) - 1
        for position, step in enumerate(self._steps):
            started = time.perf_counter()
            answers = _answers(step, sources, count)
            scores = step.calibrate(answers.probability)
            ended = time.perf_counter()
            if trace is not None:
                self._note(trace, step.name, started, ended, count, len(answers.faults))
            tally.stage_milliseconds[position] += (ended - started) * 1000
            tally.stage_rows[position] += count
            if places is None and answers.answered is None:
                tally.stage_scores[start : start + count, position] = scores
            else:
                if places is None:
                    places = np.arange(start, start + count)
                if answers.answered is not None:
                    _note_faults(tally, position, places, answers)
                    places = places[answers.answered]
                tally.stage_scores[places, position] = scores
            if position == last:
                break
            left_open = (scores >= step.clear_below) & (scores < step.flag_above)
            if not left_open.any():
                break
            if answers.answered is not None:
                sources = {name: values[answers.answered] for name, values in sources.items()}
            given = {
                f"{step.name}.probability": answers.probability,
                f"{step.name}.score": scores,
                **{f"{step.name}.{name}": values for name, values in answers.outputs.items()},
            }
            sources |= given
            if not left_open.all():
                kept = np.flatnonzero(left_open)
                places = kept + start if places is None else places[kept]
                sources = {name: values[kept] for name, values in sources.items()}
                count = len(kept)
            else:
                count = len(scores)

    def _note(self, trace: Trace, stage: str, started: float, ended: float, rows: int, failed_rows: int) -> None:
        about = self._about | {"discern.stage": stage, "discern.rows": rows, "discern.rows_failed": failed_rows}
        trace.add(Piece(f"stage {stage}", started, ended, about))


def _note_faults(tally: _Tally, position: int, places: NDArray[np.intp], answers: _Answers) -> None:
    for row, reason in answers.faults.items():
        place = int(places[row])
        tally.faults[place] = reason
        if position:
            tally.degraded[place] = position
        else:
            tally.stage_scores[place] = np.nan


def _last_answers(stage_scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """Return for each row the score of the last stage that answered, and that stage's position."""
    decided_by = np.zeros(len(stage_scores), np.int16)
    score = stage_scores[:, 0].copy()
    for position in range(1, stage_scores.shape[1]):
        column = stage_scores[:, position]
        answered = column == column  # noqa: PLR0124 - false for NaN
        np.copyto(score, column, where=answered)
        np.copyto(decided_by, np.int16(position), where=answered)
    return score, decided_by


def _chunk_size(rows: NDArray[Any], most: int) -> int:
    bytes_per_row = max(1, rows.nbytes // max(1, len(rows)))
    return max(1, min(most, CHUNK_BYTES // bytes_per_row))


def _answers(step: _Step, sources: Mapping[str, NDArray[Any]], count: int) -> _Answers:
    feeds = {feed.tensor: _fed(feed, sources[feed.source]) for feed in step.feeds}
    try:
        outputs = step.model.run(feeds, step.outputs)
    except StageFailed as failure:
        if count == 1:
            return _Answers(np.empty(0, np.intp), np.empty(0), {}, {0: failure.reason})
        return _row_by_row(step, feeds, count)
    return _usable(step, outputs, None, {})


def _row_by_row(step: _Step, feeds: Mapping[str, NDArray[Any]], count: int) -> _Answers:
    faults: dict[int, str] = {}
    pieces: list[dict[str, NDArray[Any]]] = []
    answered: list[int] = []
    for row in range(count):
        try:
            piece = step.model.run({name: values[row : row + 1] for name, values in feeds.items()}, step.outputs)
        except StageFailed as failure:
            faults[row] = failure.reason
            continue
        if pieces and any(value.shape != pieces[0][name].shape for name, value in piece.items()):
            faults[row] = "an output that a later stage takes has a different shape for each row"
            continue
        pieces.append(piece)
        answered.append(row)
    if not pieces:
        return _Answers(np.empty(0, np.intp), np.empty(0), {}, faults)
    outputs = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    return _usable(step, outputs, np.asarray(answered, np.intp), faults)


def _usable(
    step: _Step, outputs: dict[str, NDArray[Any]], answered: NDArray[np.intp] | None, faults: dict[int, str]
) -> _Answers:
    """Return the answers without the rows whose probability is none. `answered` None means all rows."""
    probability = outputs[step.model.probability].astype(np.float64)
    others = {name: outputs[name] for name in step.outputs}
    # NaN is neither, so it fails these too.
    if np.minimum.reduce(probability) >= 0.0 and np.maximum.reduce(probability) <= 1.0:
        return _Answers(answered, probability, others, faults)
    good = (probability >= -ROUNDING) & (probability <= 1 + ROUNDING)
    if not good.all():
        places = np.arange(len(probability)) if answered is None else answered
        for place in np.flatnonzero(~good).tolist():
            faults[int(places[place])] = _what_is_wrong(float(probability[place]))
        answered, probability = places[good], probability[good]
        others = {name: values[good] for name, values in others.items()}
    return _Answers(answered, np.clip(probability, 0.0, 1.0), others, faults)


def _what_is_wrong(probability: float) -> str:
    if math.isfinite(probability):
        return f"the probability {probability:.6g} is outside [0, 1]"
    return f"the probability is not finite ({probability})"


def _fed(feed: _Feed, values: NDArray[Any]) -> NDArray[Any]:
    shaped = values.reshape(-1, 1) if feed.as_column else values
    return shaped.astype(feed.dtype, copy=False)


def _wired(manifest: Manifest, position: int, models: Mapping[str, StageModel], *, early_exits: bool) -> _Step:
    stage, model = manifest.stages[position], models[manifest.stages[position].name]
    takes = stage.takes
    if takes is None:
        if len(model.inputs) != 1:
            names = ", ".join(info.name for info in model.inputs)
            raise _unfit(stage, f"the graph has the inputs {names}; say in `takes` where each comes from")
        takes = {model.inputs[0].name: "input"}
    if takes.keys() != {info.name for info in model.inputs}:
        given, wanted = ", ".join(sorted(takes)), ", ".join(sorted(info.name for info in model.inputs))
        raise _unfit(stage, f"`takes` names the inputs {given}, the graph has {wanted}")
    exits = stage.exits if early_exits else None
    last = position == len(manifest.stages) - 1
    return _Step(
        name=stage.name,
        model=model,
        feeds=tuple(_feed(manifest, stage, info, takes[info.name], models) for info in model.inputs),
        outputs=_taken_later(manifest, position),
        calibrate=calibrator(stage.calibration),
        # No score is at least infinity; the last stage leaves no row open.
        clear_below=math.inf if last else exits.clear_below if exits else -math.inf,
        flag_above=exits.flag_above if exits else math.inf,
    )


def _taken_later(manifest: Manifest, position: int) -> tuple[str, ...]:
    sources = {source for stage in manifest.stages[position + 1 :] for source in (stage.takes or {}).values()}
    prefix = f"{manifest.stages[position].name}."
    taken = {source.removeprefix(prefix) for source in sources if source.startswith(prefix)}
    return tuple(sorted(taken - {"score", "probability"}))


def _feed(manifest: Manifest, stage: Stage, info: TensorInfo, source: str, models: Mapping[str, StageModel]) -> _Feed:
    if info.dtype is None:
        raise _unfit(stage, f"input {info.name} is not a tensor of numbers")
    origin, _, output = source.partition(".")
    if source == "input":
        dtype, shape = _input_tensor(manifest.input)
        _must_fit(stage, info, "the detector's input", dtype, shape)
    elif output in {"score", "probability"}:
        if not info.is_float or len(info.shape) not in {1, 2} or info.shape[1:] not in {(), (1,), (None,)}:
            raise _unfit(stage, f"input {info.name} takes {source}: it must be floats of shape [rows] or [rows, 1]")
    else:
        found = next((other for other in models[origin].outputs if other.name == output), None)
        if found is None or found.dtype is None:
            raise _unfit(stage, f"input {info.name} takes {source}, but the graph of {origin} has no such tensor")
        # Without a declared shape the graph says nothing that could be compared.
        _must_fit(stage, info, source, found.dtype, (found.shape or info.shape)[1:])
    one_number = output in {"score", "probability"} and len(info.shape) == 2
    return _Feed(info.name, source, info.dtype, as_column=one_number)


def _input_tensor(spec: ImageSpec | RecordSpec) -> tuple[np.dtype[Any], tuple[int | None, ...]]:
    if isinstance(spec, ImageSpec):
        return np.dtype(np.uint8), (spec.height, spec.width, 3)
    return np.dtype(np.float32), (len(spec.fields),)


def _must_fit(
    stage: Stage, info: TensorInfo, source: str, dtype: np.dtype[Any], row_shape: tuple[int | None, ...]
) -> None:
    if not info.shape:
        raise _unfit(stage, f"input {info.name} declares no shape")
    wanted = info.shape[1:]
    fits = len(info.shape) == len(row_shape) + 1 and all(
        want is None or have is None or want == have for want, have in zip(wanted, row_shape, strict=True)
    )
    if info.dtype != dtype or not fits:
        raise _unfit(
            stage,
            f"input {info.name} is {info.dtype} [rows{_listed(wanted)}], "
            f"but {source} is {dtype} [rows{_listed(row_shape)}]",
        )


def _listed(shape: tuple[int | None, ...]) -> str:
    return "".join(f", {'?' if size is None else size}" for size in shape)


def _unfit(stage: Stage, reason: str) -> BundleRefused:
    return refused(stage.model, reason, f"Make the graph and stage {stage.name} of the manifest agree.")
