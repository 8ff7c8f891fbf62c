"""Records read by a decoder made for one detector: JSON bytes to the row of numbers in about two microseconds.

- It accepts nothing that `prepare_record` refuses and gives the same row, to the bit; whatever it does not accept goes
  through `prepare_record`, which names every fault or accepts it after all.
- The digest is of the canonical JSON: fields in the order of their names, missing and null ones left out, no spaces,
  UTF-8, the shortest digits of a number.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np

from discern.core.errors import EmptyInput, MalformedRequest
from discern.core.verdict import InputFacts
from discern.inputs.record import LARGEST, MOST_EXACT_INTEGER, prepare_record
from discern.inputs.source import check_limit, opened
from discern.inputs.spec import BooleanField, CategoryField, IntegerField, NumberField, RecordField, RecordSpec
from discern.inputs.types import InputLimits, MediaContent, Record

_MEND = 'Send one flat JSON object, such as {"amount": 12.5}.'
_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


class RecordRow(NamedTuple):
    """A record as a model takes it, in the manifest's order, None or NaN where a value misses; and its facts."""

    values: tuple[Any, ...]
    facts: InputFacts


class RecordReader:
    """Reads the records of one detector. Thread-safe."""

    def __init__(self, spec: RecordSpec, limits: InputLimits) -> None:
        self._spec = spec
        self._most = limits.record_bytes
        # Declared in the order of their names, so that encoding what was decoded gives the canonical JSON.
        order = sorted(range(len(spec.fields)), key=lambda column: spec.fields[column].name)
        self._type = msgspec.defstruct(
            "Record",
            [_declared(column, spec.fields[column]) for column in order],
            rename={f"field_{column}": spec.fields[column].name for column in order},
            kw_only=True,
            frozen=True,
            forbid_unknown_fields=True,
            omit_defaults=True,
            gc=False,
        )
        self._decode = msgspec.json.Decoder(self._type).decode
        self._in_order = _getter([order.index(column) for column in range(len(order))])
        self._categories = [
            (column, {category: float(index) for index, category in enumerate(field.categories)})
            for column, field in enumerate(spec.fields)
            if isinstance(field, CategoryField)
        ]

    def from_json(self, content: bytes) -> RecordRow:
        """Return the row of one JSON object.

        Raises InputTooLarge, EmptyInput, MalformedRequest, or InvalidRecord whose fact `faults` names every fault.
        """
        check_limit("record_bytes", self._most, len(content), "bytes")
        try:
            record = self._decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._thoroughly(parse_record(content))
        return self._row(record)

    def from_content(self, content: MediaContent | Record) -> RecordRow:
        """Return the row of a record in memory, of JSON bytes, or of a local JSON file. Also raises UnreadableInput."""
        if isinstance(content, bytes):
            return self.from_json(content)
        if isinstance(content, dict):
            return self.from_record(content)
        with opened(content) as source:
            source.check_bytes("record_bytes", self._most)
            return self.from_json(source.read())

    def from_record(self, record: Mapping[str, object]) -> RecordRow:
        """Return the row of a record in memory. Raises InvalidRecord or InputTooLarge."""
        try:
            typed = msgspec.convert(record, self._type)
        except (msgspec.MsgspecError, RecursionError):
            return self._thoroughly(record)
        return self._row(typed)

    def _row(self, record: Any) -> RecordRow:  # noqa: ANN401 - of the type made for this detector
        canonical = _encode(record)
        values = self._in_order(msgspec.structs.astuple(record))
        if self._categories:
            coded = list(values)
            for column, codes in self._categories:
                if coded[column] is not None:
                    coded[column] = codes[coded[column]]
            values = tuple(coded)
        return self._with_facts(values, canonical)

    def _thoroughly(self, record: Mapping[str, object]) -> RecordRow:
        row = prepare_record(record, self._spec)[0]
        plain = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in record.items()
            if value is not None
        }
        return self._with_facts(tuple(row.tolist()), _encode_sorted(plain))

    def _with_facts(self, values: tuple[Any, ...], canonical: bytes) -> RecordRow:
        check_limit("record_bytes", self._most, len(canonical), "bytes")
        digest = hashlib.sha256(canonical).hexdigest()
        return RecordRow(values, InputFacts(kind="record", sha256=digest, bytes=len(canonical)))


def parse_record(content: bytes) -> Record:
    """Return the record in `content`. Raises EmptyInput or MalformedRequest; its fields are not yet checked."""
    if not content.strip():
        raise EmptyInput("The record is empty.", mend=_MEND)
    try:
        value = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequest(f"The record is not valid JSON: {error}.", mend=_MEND) from error
    if not isinstance(value, dict):
        raise MalformedRequest(f"The record is a JSON {type(value).__name__}, not an object.", mend=_MEND)
    return value


def _declared(column: int, field: RecordField) -> tuple[str, Any] | tuple[str, Any, None]:
    kind = _type(field)
    # Any name of a manifest may be a Python keyword, so fields are declared by their column and renamed.
    return (f"field_{column}", kind) if field.missing == "refuse" else (f"field_{column}", kind | None, None)


def _type(field: RecordField) -> Any:  # noqa: ANN401 - a type made at run time
    match field:
        case NumberField():
            low = -LARGEST if field.minimum is None else max(field.minimum, -LARGEST)
            high = LARGEST if field.maximum is None else min(field.maximum, LARGEST)
            return _whole(field) | Annotated[float, msgspec.Meta(ge=low, le=high)]
        case IntegerField():
            return _whole(field)
        case BooleanField():
            return bool
        case CategoryField():
            return Literal[field.categories]


def _whole(field: NumberField | IntegerField) -> Any:  # noqa: ANN401
    # Clamped to what fits 64 bits; beyond, nothing is accepted here.
    most = MOST_EXACT_INTEGER
    low = -most if field.minimum is None else max(-most, min(most + 1, math.ceil(field.minimum)))
    high = most if field.maximum is None else min(most, max(-most - 1, math.floor(field.maximum)))
    return Annotated[int, msgspec.Meta(ge=low, le=high)]


def _getter(positions: list[int]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    if len(positions) == 1:
        return lambda values: values
    return operator.itemgetter(*positions)
