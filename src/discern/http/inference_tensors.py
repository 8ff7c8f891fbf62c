"""Requests and answers of the Open Inference Protocol, version 2, between bytes and tensors.

- A tensor's declared shape is compared with the bytes or values that came before anything is made of them.
- Tensors come as JSON or, by the binary tensor data extension, as bytes behind the JSON; what is inflated is bounded.
- No bytes raise anything but MalformedRequest and InputTooLarge.

See https://github.com/open-inference/open-inference-protocol and, for the extension, Triton's
`extension_binary_data.md`.
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from discern.core.errors import InputTooLarge, MalformedRequest, UnsupportedInput

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
# The interpreter is held while JSON is read, and others wait.
_JSON_BYTES = 16_000_000
_MOST_DIMENSIONS = 4
_MOST_SIZE = 2**31
_MEND = "See `GET /v2/models/NAME` for the tensors that a detector takes."
_INFLATERS = {"gzip": 31, "deflate": 15}
_SHOWN = 100


class _Parameters(msgspec.Struct, gc=False):
    """Those that are looked at. Others may be there, and nothing is made of them."""

    binary_data_size: int | None = None
    binary_data: bool | None = None
    binary_data_output: bool = False
    classification: int = 0
    shared_memory_region: str | None = None


_NONE = _Parameters()


class _InputEntry(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    datatype: str
    parameters: _Parameters | None = None
    data: msgspec.Raw = msgspec.Raw()


class _OutputEntry(msgspec.Struct, gc=False):
    name: str
    parameters: _Parameters | None = None


class _RequestEntry(msgspec.Struct, gc=False):
    inputs: list[_InputEntry]
    outputs: list[_OutputEntry] | None = None
    id: str | None = None
    parameters: _Parameters | None = None


class Tensor(NamedTuple):
    """An input as it came: `content` is its bytes, or the JSON of its values; one of them is empty."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: memoryview
    text: bytes | None

    @property
    def values(self) -> int:
        """How many values the shape says there are."""
        return math.prod(self.shape)


class InferenceRequest(NamedTuple):
    """A request: its inputs, and by the names of the outputs that are wanted whether each is to be binary."""

    id: str | None
    inputs: tuple[Tensor, ...]
    outputs: dict[str, bool]


class Output(NamedTuple):
    """An output of one value a row: numbers as FP64, text as BYTES."""

    name: str
    values: Sequence[float] | Sequence[str]

    @property
    def datatype(self) -> str:
        """The protocol's name of the type."""
        return "BYTES" if self.values and isinstance(self.values[0], str) else "FP64"


def inflated(content: bytes, encoding: str, most: int) -> bytes:
    """Return a body without its Content-Encoding. Raises UnsupportedInput, MalformedRequest, InputTooLarge."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return content
    if encoding not in _INFLATERS:
        detail = f"The Content-Encoding {encoding[:_SHOWN]!r} is not taken."
        raise UnsupportedInput(detail, mend="Use gzip or deflate, or none.", taken=["identity", *_INFLATERS])
    inflater = zlib.decompressobj(_INFLATERS[encoding])
    try:
        body = inflater.decompress(content, most + 1)
    except zlib.error as error:
        raise MalformedRequest(f"The body is not valid {encoding}: {error}.", mend="Send it again.") from error
    if len(body) > most:
        raise InputTooLarge(
            f"The body unpacks to more than {most:,} bytes.",
            mend="Send several requests, or raise `batch_bytes`.",
            limit="batch_bytes",
            allowed=most,
        )
    if not inflater.eof or inflater.unused_data:
        raise MalformedRequest(
            f"The {encoding} body ends in the middle, or goes on after its end.", mend="Send it again."
        )
    return body


def parse_request(body: bytes, json_length: str | None, outputs: Sequence[str]) -> InferenceRequest:
    """Return the request in a body. `json_length` is the header Inference-Header-Content-Length where it was sent.

    `outputs` are the names of those there are; all are wanted where the request names none.
    """
    length = _json_length(json_length, len(body))
    try:
        entry = _decode_request(memoryview(body)[:length])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        detail = f"The JSON of the request cannot be read: {error}."
        raise MalformedRequest(detail, mend="Send an inference request of version 2.") from error
    wanted = _wanted(entry, outputs)
    return InferenceRequest(entry.id, tuple(_tensors(entry.inputs, body, length)), wanted)


_decode_request = msgspec.json.Decoder(_RequestEntry).decode


def _json_length(header: str | None, most: int) -> int:
    length = most
    if header is not None:
        if not (header.isascii() and header.isdigit() and len(header) < 16 and int(header) <= most):
            detail = f"Inference-Header-Content-Length is {header[:_SHOWN]!r}; the body has {most} bytes."
            raise MalformedRequest(detail, mend="Send the length of the JSON in front of the binary data.")
        length = int(header)
    if length > _JSON_BYTES:
        raise InputTooLarge(
            f"The JSON of the request has {length:,} bytes; at most {_JSON_BYTES:,} are read.",
            mend="Send the tensors as binary data, or several requests.",
            limit="json",
            allowed=_JSON_BYTES,
            found=length,
        )
    return length


def _wanted(entry: _RequestEntry, outputs: Sequence[str]) -> dict[str, bool]:
    binary = (entry.parameters or _NONE).binary_data_output
    if not entry.outputs:
        return dict.fromkeys(outputs, binary)
    wanted = {}
    for one in entry.outputs:
        parameters = one.parameters or _NONE
        if one.name not in outputs:
            raise _malformed(f"There is no output {one.name[:_SHOWN]!r}; there are {', '.join(outputs)}")
        if parameters.classification or parameters.shared_memory_region is not None:
            raise _malformed(f"Output {one.name}: classification and shared memory are not taken")
        wanted[one.name] = binary if parameters.binary_data is None else parameters.binary_data
    return wanted


def _tensors(entries: Sequence[_InputEntry], body: bytes, start: int) -> list[Tensor]:
    tensors = []
    for entry in entries:
        shown, parameters = entry.name[:_SHOWN], entry.parameters or _NONE
        if parameters.shared_memory_region is not None:
            raise _malformed(f"Input {shown!r}: shared memory is not taken")
        if entry.datatype not in DATATYPES and entry.datatype != "BYTES":
            taken = ", ".join((*DATATYPES, "BYTES"))
            raise _malformed(f"Input {shown!r} is of datatype {entry.datatype[:_SHOWN]!r}; taken are {taken}")
        if not 1 <= len(entry.shape) <= _MOST_DIMENSIONS or not all(0 < size < _MOST_SIZE for size in entry.shape):
            detail = f"Input {shown!r} has shape {entry.shape[: _MOST_DIMENSIONS + 1]}"
            raise _malformed(f"{detail}; taken are 1 to {_MOST_DIMENSIONS} dimensions, none of them 0")
        size = parameters.binary_data_size
        text = None
        if size is not None:
            if not 0 <= size <= len(body) - start:
                raise _malformed(f"Input {shown!r} says it has {size} bytes; {len(body) - start} are left")
            start += size
        elif not bytes(entry.data):
            raise _malformed(f"Input {shown!r} has no data")
        else:
            text = bytes(entry.data)
        content = memoryview(body)[start - (size or 0) : start]
        tensors.append(Tensor(entry.name, entry.datatype, tuple(entry.shape), content, text))
    if start != len(body):
        raise _malformed(f"{len(body) - start} bytes follow after the binary data of the inputs")
    return tensors


def numbers(tensor: Tensor) -> NDArray[Any]:
    """Return the numbers of a tensor in its shape; a JSON null, which misses, is NaN. Raises MalformedRequest."""
    dtype = DATATYPES[tensor.datatype]
    if tensor.text is None:
        if tensor.values * dtype.itemsize != len(tensor.content):
            raise _mismatch(tensor, f"{tensor.values * dtype.itemsize} bytes", f"{len(tensor.content)} bytes")
        return np.frombuffer(tensor.content, dtype).reshape(tensor.shape)
    try:
        return np.array(_json_values(tensor, tensor.text), dtype).reshape(tensor.shape)
    except (TypeError, ValueError, OverflowError) as error:
        raise _malformed(f"Input {tensor.name[:_SHOWN]}: its values are no {tensor.datatype}: {error}") from error


def column(tensor: Tensor) -> list[Any]:
    """Return the values of a tensor of one value a row; None and NaN miss. Raises MalformedRequest."""
    if tensor.datatype == "BYTES":
        return [_text(tensor, value) for value in byte_strings(tensor)]
    values: list[Any] = (
        numbers(tensor).reshape(-1).tolist() if tensor.text is None else _json_values(tensor, tensor.text)
    )
    return values


def byte_strings(tensor: Tensor) -> list[bytes | str | None]:
    """Return the values of a BYTES tensor: bytes of a binary one, text of one in JSON. Raises MalformedRequest."""
    if tensor.text is not None:
        return _json_values(tensor, tensor.text)
    content, at = tensor.content, 0
    # Each has four bytes in front that tell its length.
    if tensor.values * 4 > len(content):
        raise _mismatch(tensor, f"{tensor.values} values", f"{len(content)} bytes")
    values: list[bytes | str | None] = []
    for _ in range(tensor.values):
        size = struct.unpack_from("<I", content, at)[0] if at + 4 <= len(content) else len(content)
        if at + 4 + size > len(content):
            raise _mismatch(tensor, f"{tensor.values} values", f"{len(content)} bytes that end in value {len(values)}")
        values.append(bytes(content[at + 4 : at + 4 + size]))
        at += 4 + size
    if at != len(content):
        raise _mismatch(tensor, f"{tensor.values} values", f"{len(content) - at} bytes more")
    return values


def _text(tensor: Tensor, value: bytes | str | None) -> str | None:
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else value
    except UnicodeDecodeError as error:
        raise _malformed(f"Input {tensor.name[:_SHOWN]}: a value is not UTF-8 text: {error.reason}") from error


def _json_values(tensor: Tensor, text: bytes) -> list[Any]:
    """Return the values flat, in row order, however deep they are nested."""
    # Between two values there is a comma, so more values than this there are not.
    most = text.count(b",") + 1
    if most < tensor.values:
        raise _mismatch(tensor, f"{tensor.values} values", f"at most {most}")
    kind: Any = str if tensor.datatype == "BYTES" else bool if tensor.datatype == "BOOL" else float
    if kind is float and tensor.datatype[:2] != "FP":
        kind = int
    depth = _depth(text, len(tensor.shape))
    try:
        values: list[Any] = _decoder(kind, depth)(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(f"Input {tensor.name[:_SHOWN]}: its data is no list of {tensor.datatype}: {error}") from error
    for size in tensor.shape[1:depth]:
        if any(len(inner) != size for inner in values):
            raise _malformed(f"Input {tensor.name[:_SHOWN]}: its lists are not of shape {list(tensor.shape)}")
        values = list(itertools.chain.from_iterable(values))
    if len(values) != tensor.values:
        raise _mismatch(tensor, f"{tensor.values} values", f"{len(values)}")
    return values


def _depth(text: bytes, dimensions: int) -> int:
    """Return how deep the lists are nested: data is flat, or as deep as the tensor has dimensions."""
    return dimensions if b"".join(text[:_SHOWN].split()).startswith(b"[[") else 1


@cache
def _decoder(kind: Any, depth: int) -> Any:  # noqa: ANN401 - types made at run time
    wanted: Any = kind | None
    for _ in range(depth):
        wanted = list[wanted]
    return msgspec.json.Decoder(wanted).decode


def encode_answer(
    outputs: Sequence[Output], wanted: Mapping[str, bool], head: Mapping[str, str]
) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the length of its JSON where binary data follows, else None."""
    entries: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for output in (output for output in outputs if output.name in wanted):
        entry: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": [len(output.values)]}
        if wanted[output.name]:
            content = _as_bytes(output)
            binary.append(content)
            entry["parameters"] = {"binary_data_size": len(content)}
        else:
            entry["data"] = output.values
        entries.append(entry)
    text = msgspec.json.encode({**head, "outputs": entries})
    return (b"".join([text, *binary]), len(text)) if binary else (text, None)


def _as_bytes(output: Output) -> bytes:
    if output.datatype == "FP64":
        return np.array(output.values, "<f8").tobytes()
    return b"".join(
        struct.pack("<I", len(value)) + value for value in (str(text).encode("utf-8") for text in output.values)
    )


def _mismatch(tensor: Tensor, wanted: str, found: str) -> MalformedRequest:
    return _malformed(
        f"Input {tensor.name[:_SHOWN]} of {tensor.datatype} {list(tensor.shape)} needs {wanted}; it has {found}"
    )


def _malformed(detail: str) -> MalformedRequest:
    return MalformedRequest(f"{detail}.", mend=_MEND)
