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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from discern.core.verdict import StageReading
from discern.detectors.calibration import calibrate
from discern.detectors.refusal import refused
from discern.detectors.runtime import ROUNDING, StageFailed, StageModel
from discern.inputs.spec import ImageSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from discern.core.errors import BundleRefused
    from discern.detectors.manifest import Manifest, Stage
    from discern.detectors.runtime import TensorInfo
    from discern.inputs.spec import RecordSpec

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
    reached.
    """

    score: float | None
    decided_by: str
    readings: tuple[StageReading, ...]
    degraded: str | None = None
    error: str | None = None


@dataclass(slots=True)
class _Row:
    """A row on its way."""

    first_stage: str
    readings: list[StageReading] = field(default_factory=list)
    score: float | None = None
    decided_by: str | None = None
    degraded: str | None = None
    error: str | None = None

    def outcome(self) -> RowOutcome:
        return RowOutcome(
            self.score, self.decided_by or self.first_stage, tuple(self.readings), self.degraded, self.error
        )


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
    temperature: float
    clear_below: float
    flag_above: float


@dataclass(frozen=True, slots=True)
class _Answers:
    """What a stage gave: raw `probability` and other `outputs` of the rows `answered`; `faults` of the rest."""

    answered: NDArray[np.intp]
    probability: NDArray[np.float64]
    outputs: dict[str, NDArray[Any]]
    faults: dict[int, str]


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

    def run(self, rows: NDArray[Any]) -> list[RowOutcome]:
        """Return the outcome of every row, in order. `rows` is a `Prepared.tensor`, [rows, ...]; it is not changed."""
        size = _chunk_size(rows)
        return [
            outcome for start in range(0, len(rows), size) for outcome in self._run_chunk(rows[start : start + size])
        ]

    def _run_chunk(self, rows: NDArray[Any]) -> list[RowOutcome]:
        journeys = [_Row(self._steps[0].name) for _ in rows]
        travelling = np.arange(len(rows))
        sources: dict[str, NDArray[Any]] = {"input": rows}
        for position, step in enumerate(self._steps):
            started = time.perf_counter()
            answers = _answers(step, sources, len(travelling))
            scores = calibrate(answers.probability, step.temperature)
            share = round((time.perf_counter() - started) * 1000 / len(travelling), 3)
            for place, score in zip(travelling[answers.answered].tolist(), scores.tolist(), strict=True):
                row = journeys[place]
                row.score, row.decided_by = score, step.name
                row.readings.append(StageReading(step.name, score, share))
            for place, reason in answers.faults.items():
                row = journeys[travelling[place]]
                row.readings.append(StageReading(step.name, None, share, error=reason))
                if position == 0:
                    row.error = reason
                else:
                    row.degraded = step.name
            left_open = (scores >= step.clear_below) & (scores < step.flag_above)
            kept = answers.answered[left_open]
            if not kept.size:
                break
            if kept.size < len(travelling):
                travelling = travelling[kept]
                sources = {name: values[kept] for name, values in sources.items()}
            sources[f"{step.name}.probability"] = answers.probability[left_open]
            sources |= {f"{step.name}.{name}": values[left_open] for name, values in answers.outputs.items()}
            sources[f"{step.name}.score"] = scores[left_open]
        return [row.outcome() for row in journeys]


def _chunk_size(rows: NDArray[Any]) -> int:
    bytes_per_row = max(1, rows.nbytes // max(1, len(rows)))
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES // bytes_per_row))


def _answers(step: _Step, sources: Mapping[str, NDArray[Any]], count: int) -> _Answers:
    feeds = {feed.tensor: _fed(feed, sources[feed.source]) for feed in step.feeds}
    try:
        outputs = step.model.run(feeds, step.outputs)
    except StageFailed as failure:
        if count == 1:
            return _Answers(np.empty(0, np.intp), np.empty(0), {}, {0: failure.reason})
        return _row_by_row(step, feeds, count)
    return _usable(step, outputs, np.arange(count), {})


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
    step: _Step, outputs: dict[str, NDArray[Any]], answered: NDArray[np.intp], faults: dict[int, str]
) -> _Answers:
    """Return the answers without the rows whose probability is none."""
    probability = outputs[step.model.probability].astype(np.float64)
    # Written so that NaN fails it.
    good = (probability >= -ROUNDING) & (probability <= 1 + ROUNDING)
    others = {name: outputs[name] for name in step.outputs}
    if not good.all():
        for place in np.flatnonzero(~good).tolist():
            faults[int(answered[place])] = _what_is_wrong(float(probability[place]))
        answered, probability = answered[good], probability[good]
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
        temperature=stage.calibration.temperature,
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
