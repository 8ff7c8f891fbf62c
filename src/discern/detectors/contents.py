"""What a file of a bundle may be: ONNX, JSON, Markdown or YAML, by its name and by its content.

- A file is refused when its name ends in anything else, or when its content is of another kind than its name says.
- Nothing here runs, imports or unpickles anything.
"""

from __future__ import annotations

import json
import math
from pathlib import PurePosixPath
from typing import NoReturn

from discern.detectors.onnx.graph import inspect_graph
from discern.detectors.refusal import refused

MODEL_BYTES = 1024**3
TEXT_BYTES = 16 * 1024**2
BYTES_BY_SUFFIX = {".onnx": MODEL_BYTES, ".json": TEXT_BYTES, ".md": TEXT_BYTES, ".yaml": TEXT_BYTES}
"""Every kind of file a bundle may hold, with the most bytes one may have."""

_CODE = {
    ".py": "Python code",
    ".pyc": "Python code",
    ".so": "a native library",
    ".dll": "a native library",
    ".dylib": "a native library",
    ".sh": "a shell script",
    ".pkl": "a pickle, which can run code when it is opened",
    ".pickle": "a pickle, which can run code when it is opened",
    ".joblib": "a pickle, which can run code when it is opened",
    ".npy": "a NumPy array, which may hold a pickle",
    ".npz": "a NumPy archive, which may hold a pickle",
    ".pt": "a PyTorch file, which can run code when it is opened",
    ".pth": "a PyTorch file, which can run code when it is opened",
    ".bin": "a raw data file; an ONNX model carries its weights inside",
    ".data": "a raw data file; an ONNX model carries its weights inside",
}
_MEND = "A bundle holds .onnx, .json, .md and .yaml files only; export the model to ONNX and remove the rest."


def check_name(name: str) -> None:
    """Raise BundleRefused unless `name` is of a kind that a bundle may hold."""
    suffix = PurePosixPath(name).suffix
    if suffix not in BYTES_BY_SUFFIX:
        what = _CODE.get(suffix.lower(), f"a file of a kind bundles do not hold ({suffix or 'no suffix'})")
        raise refused(name, f"it is named as {what}", _MEND)


def check_content(name: str, content: bytes) -> None:
    """Raise BundleRefused unless `content` is what `name` says. The name has passed `check_name`."""
    suffix = PurePosixPath(name).suffix
    if suffix == ".onnx":
        inspect_graph(content, name)
        return
    text = decode_text(name, content)
    if suffix == ".json":
        _check_json(name, text)


def decode_text(name: str, content: bytes) -> str:
    """Return the text of a file, which must be UTF-8 without NUL."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refused(name, f"it is not UTF-8 text (byte {error.start})", _MEND) from None
    if "\0" in text:
        raise refused(name, "it holds NUL bytes, so it is not text", _MEND)
    return text


def _check_json(name: str, text: str) -> None:
    try:
        json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise refused(name, "its JSON is nested too deeply") from None
    except ValueError as error:
        raise refused(name, f"it is not JSON: {error}") from None


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(literal: str) -> float:
    value = float(literal)
    if math.isinf(value):
        raise ValueError(f"the number {literal[:40]} overflows")
    return value
