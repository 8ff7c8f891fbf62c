"""What a detector is to a client of the Open Inference Protocol: metadata, tensors to inputs, verdicts to outputs.

- A detector of records takes one tensor a field, of shape [n] or [n, 1]; or all of them in one tensor `record` of shape
  [n, fields], in the order of the manifest, as its model has them.
- A detector of images takes `image`: files as BYTES [n], or pixels as UINT8 [n, height, width, 3], which go the way of
  a file without loss.
- A value that misses is NaN, a JSON null, or a tensor that is left out.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from discern.core.errors import CallerError, DiscernError, MalformedRequest
from discern.core.verdict import Verdict
from discern.detectors.manifest import Manifest
from discern.http.inference_tensors import Output, Tensor, byte_strings, column, numbers
from discern.inputs.pixels import as_png
from discern.inputs.source import check_limit
from discern.inputs.spec import BooleanField, CategoryField, IntegerField, NumberField, RecordField, RecordSpec
from discern.inputs.types import Record
from discern.inputs.uploads import Member, UploadLimits, too_many

PLATFORM = "discern"
OUTPUTS: dict[str, Callable[[Verdict], Any]] = {
    "score": lambda verdict: verdict.score,
    "decision": lambda verdict: verdict.decision,
    "label": lambda verdict: verdict.label or "",
    "decided_by": lambda verdict: verdict.decided_by,
    "verdict_id": lambda verdict: verdict.id,
}
WHOLE_RECORD = "record"
IMAGE = "image"
_NAMED_ROWS = 5
_SHOWN = 100


def metadata(manifest: Manifest, versions: Sequence[str]) -> dict[str, Any]:
    """Return the metadata of a detector: its tensors, and what they mean."""
    spec = manifest.input
    told: dict[str, Any] = {
        "task": manifest.task,
        "version": manifest.version,
        "review_from": manifest.decision.review_from,
        "flag_from": manifest.decision.flag_from,
    }
    if manifest.decision.bands is not None:
        told["bands"] = manifest.decision.bands.model_dump(mode="json")
    if isinstance(spec, RecordSpec):
        inputs = [{"name": field.name, "datatype": _datatype(field), "shape": [-1]} for field in spec.fields]
        if all(field.name != WHOLE_RECORD for field in spec.fields):
            told["instead_of_all_inputs"] = f"{WHOLE_RECORD} FP32 or FP64 [-1, {len(spec.fields)}]"
    else:
        inputs = [{"name": IMAGE, "datatype": "BYTES", "shape": [-1]}]
        told["instead"] = f"{IMAGE} UINT8 [-1, height, width, 3], RGB"
    outputs = [{"name": name, "datatype": "FP64" if name == "score" else "BYTES", "shape": [-1]} for name in OUTPUTS]
    return {
        "name": manifest.name,
        "versions": list(versions),
        "platform": PLATFORM,
        "inputs": inputs,
        "outputs": outputs,
        "parameters": told,
    }


def records(inputs: Sequence[Tensor], spec: RecordSpec, most: int) -> list[Record]:
    """Return the records that the tensors hold; their values are not yet checked.

    Raises MalformedRequest, and InputTooLarge for more than `most` rows.
    """
    fields = {field.name: field for field in spec.fields}
    rows = _rows(inputs, most, "batch_records")
    if len(inputs) == 1 and inputs[0].name == WHOLE_RECORD and WHOLE_RECORD not in fields:
        return _of_matrix(inputs[0], spec)
    needed = {field.name for field in spec.fields if field.missing == "refuse"}
    _check_names([tensor.name for tensor in inputs], needed, fields)
    columns: dict[str, list[Any]] = {}
    for tensor in inputs:
        if tensor.shape not in ((rows,), (rows, 1)):
            wanted = f"[{rows}] or [{rows}, 1]"
            raise _malformed(f"Input {tensor.name} has shape {list(tensor.shape)}; every field has {wanted}")
        columns[tensor.name] = column(tensor)
    return [_record(columns, row) for row in range(rows)]


def members(inputs: Sequence[Tensor], limits: UploadLimits) -> list[Member]:
    """Return the pictures that the tensors hold. Raises MalformedRequest, InputTooLarge."""
    rows = _rows(inputs, limits.items, limits.items_setting)
    _check_names([tensor.name for tensor in inputs], {IMAGE}, {IMAGE: None})
    tensor = inputs[0]
    if tensor.datatype == "UINT8" and len(tensor.shape) == 4 and tensor.shape[3] == 3:
        # Stored in a file each row of pixels has a byte more.
        size = tensor.shape[1] * (1 + 3 * tensor.shape[2])
        check_limit(limits.item_bytes_setting, limits.item_bytes, size, "bytes")
        pixels = numbers(tensor)
        return [Member(IMAGE, size, partial(_png, pixels, row)) for row in range(rows)]
    if tensor.datatype != "BYTES" or tensor.shape not in ((rows,), (rows, 1)):
        found = f"{tensor.datatype} {list(tensor.shape)}"
        raise _malformed(f"Input {IMAGE} is {found}; taken are BYTES [n] and UINT8 [n, height, width, 3]")
    return [
        Member(IMAGE, 0 if value is None else len(value), partial(_file, value, limits))
        for value in byte_strings(tensor)
    ]


def outputs(verdicts: Sequence[Verdict]) -> list[Output]:
    """Return the outputs for the verdicts of all rows."""
    return [Output(name, [of(verdict) for verdict in verdicts]) for name, of in OUTPUTS.items()]


def all_judged(answers: Sequence[Verdict | DiscernError]) -> list[Verdict]:
    """Return the verdicts of all rows.

    The protocol knows no errors of single rows: where there are any, raises one that names them, of the caller's kind
    or of the installation's.
    """
    verdicts = [answer for answer in answers if isinstance(answer, Verdict)]
    if len(verdicts) == len(answers):
        return verdicts
    faults = {row: answer for row, answer in enumerate(answers) if isinstance(answer, DiscernError)}
    first = next((fault for fault in faults.values() if not isinstance(fault, CallerError)), None)
    if first is not None:
        raise first
    named = "; ".join(f"row {row}: {fault}" for row, fault in list(faults.items())[:_NAMED_ROWS])
    more = f"; and {len(faults) - _NAMED_ROWS} more" if len(faults) > _NAMED_ROWS else ""
    judged = f" The other {len(verdicts)} rows were judged and are on the ledger." if verdicts else ""
    raise MalformedRequest(f"{len(faults)} of {len(answers)} rows cannot be judged: {named}{more}.{judged}")


def _datatype(field: RecordField) -> str:
    match field:
        case NumberField():
            return "FP64"
        case IntegerField():
            return "INT64"
        case BooleanField():
            return "BOOL"
        case CategoryField():
            return "BYTES"
        case _:
            assert_never(field)


def _rows(inputs: Sequence[Tensor], most: int, setting: str) -> int:
    if not inputs:
        raise _malformed("The request has no inputs")
    counts = {tensor.shape[0] for tensor in inputs}
    if len(counts) > 1:
        raise _malformed(f"The inputs differ in their first dimension: {sorted(counts)[:5]}")
    rows = counts.pop()
    if rows > most:
        raise too_many(setting, most, rows)
    return rows


def _check_names(names: Sequence[str], needed: set[str], known: Mapping[str, object]) -> None:
    unknown = [name[:_SHOWN] for name in names if name not in known]
    twice = [name for name in known if names.count(name) > 1] if len(names) > len(set(names)) else []
    missing = sorted(needed - set(names))
    faults = [
        f"{what} {', '.join(found[:5])}{', ...' if len(found) > 5 else ''}"
        for what, found in (("unknown:", unknown), ("twice:", twice), ("missing:", missing))
        if found
    ]
    if faults:
        raise _malformed(f"The inputs are not those of the detector; {'; '.join(faults)}")


def _record(columns: Mapping[str, list[Any]], row: int) -> Record:
    record = {}
    for name, values in columns.items():
        value = values[row]
        # NaN, which is not equal to itself, is how tensors say that a value misses.
        if value is not None and value == value:  # noqa: PLR0124
            record[name] = value
    return record


def _of_matrix(tensor: Tensor, spec: RecordSpec) -> list[Record]:
    width = len(spec.fields)
    if tensor.datatype not in ("FP32", "FP64") or tensor.shape[1:] != (width,):
        found = f"{tensor.datatype} {list(tensor.shape)}"
        raise _malformed(f"Input {WHOLE_RECORD} is {found}; taken is FP32 or FP64 [n, {width}]")
    matrix = numbers(tensor)
    columns: dict[str, list[Any]] = {}
    for position, field in enumerate(spec.fields):
        values = matrix[:, position].tolist()
        coded = isinstance(field, BooleanField | CategoryField)
        columns[field.name] = [_from_the_model(field, value) for value in values] if coded else values
    return [_record(columns, row) for row in range(len(matrix))]


def _from_the_model(field: RecordField, value: float) -> Any:  # noqa: ANN401 - a value of a record
    """Return what a record has where the model has a number; what fits nothing stays, and is then said to be wrong."""
    if isinstance(field, BooleanField) and value in (0.0, 1.0):
        return bool(value)
    if isinstance(field, CategoryField) and 0 <= value < len(field.categories) and value.is_integer():
        return field.categories[int(value)]
    return value


def _png(pixels: NDArray[np.uint8], row: int) -> bytes:
    return as_png(pixels[row])


def _file(value: bytes | str | None, limits: UploadLimits) -> bytes:
    if isinstance(value, str):
        try:
            value = b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            detail = f"The JSON value is not base64: {error}."
            raise MalformedRequest(detail, mend="Send files as binary data, or in JSON as base64.") from error
    content = value or b""
    check_limit(limits.item_bytes_setting, limits.item_bytes, len(content), "bytes")
    return content


def _malformed(detail: str) -> MalformedRequest:
    return MalformedRequest(f"{detail}.", mend="See `GET /v2/models/NAME` for the tensors that a detector takes.")
