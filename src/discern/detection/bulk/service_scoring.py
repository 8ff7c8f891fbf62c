"""From a piece of an input to a piece of the output: the same here, in a thread, and on a worker of a cluster.

- On the good path of a table there is no Python object for a row.
- A row that cannot be judged has an error in its place and no verdict; it changes nothing for the others.
- The output of a piece depends on the piece, the bundle and the run's id alone.

Needs pyarrow; imported where that is known to be there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from discern.core.errors import DetectorFailed, DiscernError, InvalidRecord, MalformedRequest
from discern.detection.bulk.sources_lines import LinesPart
from discern.detection.bulk.sources_media import MediaPart
from discern.detection.bulk.sources_tables import TablePart
from discern.detectors.assessment import Assessment, Detector
from discern.detectors.manifest import Manifest
from discern.detectors.scoring import DECISIONS, NOT_DEGRADED, UNDECIDED, Scores
from discern.inputs.columns import prepare_columns
from discern.inputs.faces import FaceLocator
from discern.inputs.prepare import prepare_media
from discern.inputs.record_reader import RecordReader, parse_record
from discern.inputs.spec import ImageSpec, RecordSpec
from discern.inputs.tables import columns_of
from discern.inputs.types import InputLimits, MediaContent

Part = TablePart | LinesPart | MediaPart
_LOW_64 = 2**64 - 1
# More at a time than where somebody waits: nobody does, and every call of the model costs.
_TOGETHER = 1024


@dataclass(slots=True)
class _Judged:
    """n rows as arrays: see Scores. `errors` holds code and detail of the rows that were not judged."""

    score: NDArray[np.float64]
    decision: NDArray[np.int8]
    decided_by: NDArray[np.int16]
    degraded: NDArray[np.int16]
    stage_scores: NDArray[np.float64]
    errors: dict[int, tuple[str, str]]


def output_schema(manifest: Manifest, id_type: Any, *, media: bool) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return the columns of the output of one detector."""
    word = pa.dictionary(pa.int8(), pa.string())
    identity = [pa.field("input", pa.string())] if media else []
    if id_type is not None:
        identity.append(pa.field("id", id_type))
    return pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            *identity,
            pa.field("verdict_id", pa.uuid()),
            pa.field("decision", word),
            pa.field("score", pa.float64()),
            pa.field("label", word),
            pa.field("decided_by", word),
            *(pa.field(f"score_{stage.name}", pa.float64()) for stage in manifest.stages),
            pa.field("degraded", word),
            pa.field("error_code", pa.string()),
            pa.field("error", pa.string()),
        ]
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """What of a run a scorer must know: `run` is its id as a number, `schema` that of `output_schema`."""

    run: int
    schema: Any
    limits: InputLimits
    id_column: str | None = None
    strict: bool = False


class Scorer:
    """Scores pieces with one detector. Thread-safe.

    `content_of` gives the content of a file by its name, where the piece does not hold it.
    """

    def __init__(
        self,
        detector: Detector,
        plan: Plan,
        locator: FaceLocator,
        *,
        content_of: Callable[[str], MediaContent | DiscernError] | None = None,
    ) -> None:
        self._detector = detector
        self._manifest = detector.manifest
        self._limits = plan.limits
        self._run = plan.run
        self._schema = plan.schema
        self._locator = locator
        self._id_column = plan.id_column
        self._strict = plan.strict
        self._content_of = content_of
        spec = detector.manifest.input
        self._fields = frozenset(field.name for field in spec.fields) if isinstance(spec, RecordSpec) else frozenset()
        self._reader = RecordReader(spec, plan.limits) if isinstance(spec, RecordSpec) else None
        self._stages = [stage.name for stage in detector.manifest.stages]
        self._words = pa.array(self._stages, pa.string())
        classes = detector.manifest.classes
        self._labels = pa.array([classes.negative, classes.positive], pa.string())

    def score(self, part: Part) -> Any:  # noqa: ANN401
        """Return the record batch of one piece."""
        if isinstance(part, TablePart):
            return self._table(part)
        return self._lines(part) if isinstance(part, LinesPart) else self._media(part)

    def _table(self, part: TablePart) -> Any:  # noqa: ANN401
        spec = self._manifest.input
        assert isinstance(spec, RecordSpec)  # noqa: S101 - asked before a table is opened
        rows = part.batch.num_rows
        prepared = prepare_columns(columns_of(part.batch, spec), rows, spec)
        errors = {row: (InvalidRecord.code, reason) for row, reason in prepared.refused.items()}
        identity = None if self._id_column is None else part.batch.column(self._id_column)
        judged = self._judged(prepared.matrix, errors)
        if part.bad:
            judged, identity = self._with_bad_rows(part, judged, identity)
        return self._batch(part.start, judged, [] if identity is None else [identity])

    def _lines(self, part: LinesPart) -> Any:  # noqa: ANN401
        rows: list[tuple[Any, ...]] = []
        errors: dict[int, tuple[str, str]] = {}
        identities: list[str | None] = []
        nothing = (np.nan,) * len(self._fields)
        for number, line in enumerate(part.lines):
            identity: str | None = None
            try:
                if isinstance(line, DiscernError):
                    raise line
                values, identity = self._record(line)
            except DiscernError as error:
                errors[number] = (error.code, error.detail)
                values = nothing
            rows.append(values)
            identities.append(identity)
        matrix = np.array(rows, dtype=np.float32).reshape(len(rows), len(self._fields))
        identity_columns = [] if self._id_column is None else [pa.array(identities, pa.string())]
        return self._batch(part.start, self._judged(matrix, errors), identity_columns)

    def _record(self, line: bytes) -> tuple[tuple[Any, ...], str | None]:
        """Return the numbers of one record and its identity; fields the detector has not are left out."""
        assert self._reader is not None  # noqa: S101 - only a detector of records reads lines
        if self._strict and self._id_column is None:
            return self._reader.from_json(line).values, None
        record = parse_record(line)
        identity = None if self._id_column is None else _text(record.get(self._id_column))
        if self._strict:
            known = {name: value for name, value in record.items() if name != self._id_column or name in self._fields}
        else:
            known = {name: value for name, value in record.items() if name in self._fields}
        return self._reader.from_record(known).values, identity

    def _media(self, part: MediaPart) -> Any:  # noqa: ANN401
        results = [self._assessed(part, number) for number in range(part.rows)]
        count, stages = part.rows, len(self._stages)
        judged = _Judged(
            np.full(count, np.nan),
            np.full(count, UNDECIDED, np.int8),
            np.zeros(count, np.int16),
            np.full(count, NOT_DEGRADED, np.int16),
            np.full((count, stages), np.nan),
            {},
        )
        for row, result in enumerate(results):
            if isinstance(result, DiscernError):
                judged.errors[row] = (result.code, result.detail)
                continue
            judged.score[row] = result.score
            judged.decision[row] = DECISIONS.index(result.decision)
            judged.decided_by[row] = self._stages.index(result.decided_by)
            if result.degraded is not None:
                judged.degraded[row] = self._stages.index(result.degraded)
            for reading in result.stages:
                if reading.score is not None:
                    judged.stage_scores[row, self._stages.index(reading.name)] = reading.score
        names = pa.array([name.encode(errors="replace").decode() for name in part.names], pa.string())
        return self._batch(part.start, judged, [names])

    def _assessed(self, part: MediaPart, number: int) -> Assessment | DiscernError:
        spec = self._manifest.input
        assert isinstance(spec, ImageSpec)  # noqa: S101 - asked before media are listed
        if part.contents is not None:
            content = part.contents[number]
        else:
            assert self._content_of is not None  # noqa: S101 - given wherever contents are not sent along
            content = self._content_of(part.names[number])
        if isinstance(content, DiscernError):
            return content
        try:
            prepared = prepare_media(content, spec, self._manifest.video, self._limits, self._locator)
            return self._detector.assess(prepared)
        except DiscernError as error:
            return error

    def _judged(self, matrix: NDArray[np.float32], errors: dict[int, tuple[str, str]]) -> _Judged:
        """Run the rows that have no error yet."""
        if not errors:
            return self._from_scores(self._detector.score_rows(matrix, chunk_rows=_TOGETHER), {})
        good = np.ones(len(matrix), np.bool_)
        good[list(errors)] = False
        judged = self._from_scores(self._detector.score_rows(matrix[good], chunk_rows=_TOGETHER), {})
        return _spread(judged, good, errors)

    def _from_scores(self, scores: Scores, errors: dict[int, tuple[str, str]]) -> _Judged:
        decision = scores.decision
        for row in np.flatnonzero(decision == UNDECIDED).tolist():
            reason = f"{self._manifest.name}: stage {self._stages[0]} gave no score: {scores.faults[row]}."
            errors[row] = (DetectorFailed.code, reason)
        return _Judged(scores.score, decision, scores.decided_by, scores.degraded, scores.stage_scores, errors)

    def _with_bad_rows(self, part: TablePart, judged: _Judged, identity: Any) -> tuple[_Judged, Any]:  # noqa: ANN401
        good = np.ones(part.rows, np.bool_)
        good[list(part.bad)] = False
        bad = {row: (MalformedRequest.code, reason) for row, reason in part.bad.items()}
        if identity is not None:
            places = np.cumsum(good) - 1
            identity = identity.take(pa.array(places, mask=~good))
        return _spread(judged, good, bad), identity

    def _batch(self, start: int, judged: _Judged, identity: Sequence[Any]) -> Any:  # noqa: ANN401
        count = len(judged.score)
        rows = np.arange(start, start + count, dtype=np.int64)
        none = judged.decision == UNDECIDED if judged.errors else None
        # Without a fault anywhere the rest of the masks need not be looked for.
        degraded = judged.degraded != NOT_DEGRADED
        reached = ~np.isnan(judged.stage_scores)
        stages = [
            pa.array(
                judged.stage_scores[:, position], mask=None if reached[:, position].all() else ~reached[:, position]
            )
            for position in range(len(self._stages))
        ]
        codes = [judged.errors.get(row) for row in range(count)] if judged.errors else None
        columns = [
            pa.array(rows),
            *identity,
            _verdict_ids(self._run, rows, none),
            _words(judged.decision, none, pa.array(DECISIONS, pa.string())),
            pa.array(judged.score, mask=none),
            _words(*_labels(judged.decision, none), self._labels),
            _words(judged.decided_by, none, self._words),
            *stages,
            _words(judged.degraded, ~degraded, self._words),
            _texts(codes, 0, count),
            _texts(codes, 1, count),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


def _spread(judged: _Judged, good: NDArray[np.bool_], errors: dict[int, tuple[str, str]]) -> _Judged:
    """Return the rows in their places among `good`, and the others without a verdict."""
    count, places = len(good), np.flatnonzero(good)

    def spread(values: NDArray[Any], nothing: float) -> NDArray[Any]:
        wide = np.full((count, *values.shape[1:]), nothing, values.dtype)
        wide[places] = values
        return wide

    return _Judged(
        spread(judged.score, np.nan),
        spread(judged.decision, UNDECIDED),
        spread(judged.decided_by, 0),
        spread(judged.degraded, NOT_DEGRADED),
        spread(judged.stage_scores, np.nan),
        errors | {int(places[row]): error for row, error in judged.errors.items()},
    )


def _verdict_ids(run: int, rows: NDArray[np.int64], none: NDArray[np.bool_] | None) -> Any:  # noqa: ANN401
    halves = np.empty((len(rows), 2), dtype=">u8")
    halves[:, 0] = run >> 64
    # The first row has the number 1: 0 is the run itself.
    halves[:, 1] = np.uint64(run & _LOW_64) + rows.astype(np.uint64) + np.uint64(1)
    valid = None if none is None else pa.array(~none).buffers()[1]
    stored = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(rows), [valid, pa.py_buffer(halves)])
    return pa.ExtensionArray.from_storage(pa.uuid(), stored)


def _labels(
    decision: NDArray[np.int8], none: NDArray[np.bool_] | None
) -> tuple[NDArray[np.int8], NDArray[np.bool_] | None]:
    """Return positions among the two classes, and which rows assert neither."""
    review = decision == DECISIONS.index("review")
    return (decision == DECISIONS.index("flag")).astype(np.int8), review if none is None else review | none


def _words(codes: NDArray[Any], none: NDArray[np.bool_] | None, words: Any) -> Any:  # noqa: ANN401
    indices = pa.array(codes.astype(np.int8, copy=False), mask=none)
    return pa.DictionaryArray.from_arrays(indices, words)


def _texts(codes: list[tuple[str, str] | None] | None, part: int, count: int) -> Any:  # noqa: ANN401
    if codes is None:
        return pa.nulls(count, pa.string())
    return pa.array([None if one is None else one[part] for one in codes], pa.string())


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
