"""The result as files: JSON that is the same byte for byte, and from it the page and the Markdown.

- The one place where figures are rounded: six significant decimals. The page and the Markdown show what the JSON has.
- JSON keys stand in the order of the structs, and in a mapping by name; there is nothing that is no number.
- Every file is there whole or not at all, the JSON last, and it goes first where a report is replaced: where it
  stands, the others are those that belong to it.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from discern.core.errors import InternalError, OperatorError
from discern.detectors.files import replace_file, taken
from discern.evaluation.results import Result, Timings

JSON, PAGE, MARKDOWN, TIMINGS = "report.json", "report.html", "report.md", "timings.json"
_MANIFEST = ".manifest.json"
_LONGEST = 200
_DIGITS = 6
_NOT_IN_NAMES = re.compile(r"[^\w.-]")
_Tree = TypeVar("_Tree", Result, Timings)


def canonical(result: msgspec.Struct) -> bytes:
    """Return the JSON of a result or of its timings. Raises InternalError for a figure that is no number."""
    tree = _rounded(msgspec.to_builtins(result, order="deterministic"), "")
    return msgspec.json.format(msgspec.json.encode(tree), indent=1) + b"\n"


def manifest_names(datasets: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the files that keep the manifests of datasets which were frozen for the run.

    Where the plain name is too long for a file, or one before has it, the digest of the whole name is added.
    """
    found: list[str] = []
    for dataset in datasets:
        plain = _NOT_IN_NAMES.sub("_", dataset)
        if len(plain.encode()) > _LONGEST or f"{plain}{_MANIFEST}" in found:
            plain = f"{plain[: _LONGEST // 4]}-{hashlib.sha256(dataset.encode()).hexdigest()[:16]}"
        found.append(f"{plain}{_MANIFEST}")
    return tuple(found)


def rounded(result: _Tree) -> _Tree:
    """Return the result, or its timings, as the JSON has it."""
    return msgspec.json.decode(canonical(result), type=type(result))


def check_free(folder: Path, *, replace: bool) -> None:
    """Raise OperatorError where a report stands already, or the folder cannot be made."""
    if (folder / JSON).exists() and not replace:
        raise taken(folder / JSON)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(f"{folder} cannot be made: {error.strerror}.", mend="Name another folder.") from error


def write(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write the files of a report in their order, the last of an older one's first gone. Raises OperatorError."""
    listed = list(files)
    for position, (name, content) in enumerate(listed):
        try:
            if position == 0:
                (folder / listed[-1][0]).unlink(missing_ok=True)
            replace_file(folder / name, content)
        except OSError as error:
            raise OperatorError(
                f"{folder / name} cannot be written: {error.strerror}.", mend="See its permissions and its space."
            ) from error


def _rounded(value: Any, path: str) -> Any:  # noqa: ANN401 - a tree of anything JSON holds
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InternalError(f"The figure at {path} is {value}, which is no number.")
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(one, f"{path}/{key}") for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one, f"{path}/{place}") for place, one in enumerate(value)]
    return value
