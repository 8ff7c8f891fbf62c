"""A record from JSON bytes, for every door that takes one."""

from __future__ import annotations

import msgspec

from discern.core.errors import EmptyInput, MalformedRequest
from discern.inputs.source import opened
from discern.inputs.types import InputLimits, MediaContent, Record

_MEND = 'Send one flat JSON object, such as {"amount": 12.5}.'


def record_in(content: MediaContent, limits: InputLimits) -> Record:
    """Return the record in bytes or a local file. Raises what `parse_record` raises, InputTooLarge, UnreadableInput."""
    with opened(content) as source:
        source.check_bytes("record_bytes", limits.record_bytes)
        return parse_record(source.read())


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
