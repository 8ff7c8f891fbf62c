"""Many inputs in one request: which formats there are, and what they hold.

- The format is what the Content-Type says, unlike for a single input: many formats begin with the same bytes.
- Records stay bytes until the plane reads them; what is wrong with one is its own answer, what is wrong with the body
  is the answer to all.
- Nothing here makes more objects than `most` records need, whatever the body holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from discern.core.errors import EmptyInput, InputTooLarge, MalformedRequest, UnsupportedInput
from discern.detectors.manifest import Manifest
from discern.inputs.arrow import arrow_records
from discern.inputs.spec import RecordSpec
from discern.inputs.types import InputLimits, Record
from discern.inputs.uploads import Member, UploadLimits, multipart_members, too_many, zip_members

Format = Literal["json", "ndjson", "arrow", "multipart", "zip"]
RECORD_TYPES: dict[str, Format] = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/vnd.apache.arrow.stream": "arrow",
}
MEDIA_TYPES: dict[str, Format] = {
    "multipart/form-data": "multipart",
    "application/zip": "zip",
    "application/x-zip-compressed": "zip",
}
_VALUES_A_RECORD = 100
_BLANK_LINES = 1000
# Media of one request are held unpacked a group at a time: enough to keep the lanes busy.
_GROUP_ITEMS = 64
_GROUP_BYTES = 32_000_000
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Most records, media and bytes of one request; see the settings of these names with `batch_` before them."""

    records: int
    images: int
    bytes: int


def format_of(content_type: str, manifest: Manifest) -> Format:
    """Return the format that a Content-Type means for a detector. Raises UnsupportedInput that lists what is taken."""
    taken = RECORD_TYPES if isinstance(manifest.input, RecordSpec) else MEDIA_TYPES
    found = taken.get(content_type.partition(";")[0].strip().lower())
    if found is None:
        said = f"is {content_type[:100]!r}" if content_type else "is missing"
        raise UnsupportedInput(
            f"The Content-Type {said}; for many inputs at once {manifest.name} takes {', '.join(taken)}.",
            mend="Send one of these, named in the Content-Type header; CSV and Parquet go to a job or `discern score`.",
            taken=list(taken),
        )
    return found


def records_of(content: bytes, form: Format, spec: RecordSpec, most: int) -> Sequence[bytes | Record]:
    """Return the records of a body, each as its JSON bytes or as a dict; their values are not yet checked.

    Raises EmptyInput, MalformedRequest, InvalidRecord for columns that do not fit, InputTooLarge for more than `most`,
    and MissingExtra.
    """
    records: Sequence[bytes | Record]
    if form == "arrow":
        records = arrow_records(content, spec, most=most, setting="batch_records")
    else:
        records = _of_array(content, most) if form == "json" else _of_lines(content, most)
    if not records:
        raise EmptyInput("There is no record in the body.", mend="Send at least one.")
    return records


def _of_array(content: bytes, most: int) -> list[bytes]:
    # Every value of an array stands between commas, so this bounds what is made of it before it is made.
    values = most * _VALUES_A_RECORD
    if content.count(b",") > values:
        raise InputTooLarge(
            f"The JSON array has more than {values:,} values, {_VALUES_A_RECORD} for each of `batch_records`.",
            mend="Send one record a line (application/x-ndjson), or several requests.",
            limit="batch_records",
            allowed=most,
        )
    try:
        entries = _decode_list(content)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise MalformedRequest(
            f"The body is not a JSON array: {error}.", mend='Send a list of records: [{"amount": 12.5}, ...].'
        ) from error
    if len(entries) > most:
        raise too_many("batch_records", most, len(entries))
    return list(map(bytes, entries))


def _of_lines(content: bytes, most: int) -> list[bytes]:
    if content.count(b"\n") > 2 * most + _BLANK_LINES:
        raise too_many("batch_records", most)
    records = [line for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line and not line.isspace()]
    if len(records) > most:
        raise too_many("batch_records", most, len(records))
    return records


def members_of(
    content: bytes, form: Format, content_type: str, manifest: Manifest, limits: BatchLimits, inputs: InputLimits
) -> list[Member]:
    """Return the media of a body. Raises EmptyInput, MalformedRequest or InputTooLarge."""
    bounds = upload_limits(manifest, limits, inputs)
    members = zip_members(content, bounds) if form == "zip" else multipart_members(content, content_type, bounds)
    if not members:
        raise EmptyInput("There is no file in the body.", mend="Send at least one.")
    return members


def upload_limits(manifest: Manifest, limits: BatchLimits, inputs: InputLimits) -> UploadLimits:
    """Return the bounds on many media for a detector: one that takes video takes files of a video's size."""
    clips = manifest.video is not None and inputs.video_bytes > inputs.image_bytes
    return UploadLimits(
        items=limits.images,
        items_setting="batch_images",
        bytes=limits.bytes,
        bytes_setting="batch_bytes",
        item_bytes=inputs.video_bytes if clips else inputs.image_bytes,
        item_bytes_setting="video_bytes" if clips else "image_bytes",
    )


def groups(members: Sequence[Member]) -> Iterator[Sequence[Member]]:
    """Yield the members, in order, in groups that may be held in memory together."""
    start = size = 0
    for position, member in enumerate(members):
        if position > start and (position - start >= _GROUP_ITEMS or size + member.size > _GROUP_BYTES):
            yield members[start:position]
            start, size = position, 0
        size += member.size
    if members:
        yield members[start:]
