"""Logging of this process: one JSON object a line on standard error, standard output, or in files that are rotated.

The rest of the code logs through the standard library, so that a program that uses Discern decides itself.

- A line names the request it belongs to (`request`), its trace (`trace`, `span`) and its workspace, where there is one.
- Nothing that a caller sent is in a line, and no secret of ours: what looks like one is blotted out wherever it stands.
- Several processes write no file together: each has its own.
"""

from __future__ import annotations

import io
import logging
import logging.handlers
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import structlog

from discern.core.errors import InvalidSettings
from discern.core.origin import origin
from discern.settings import Settings

_LEVELS = ("debug", "info", "warning", "error", "critical")
# Keys, tokens of sessions and of exchanges, and passwords in addresses.
_SECRETS = re.compile(
    r"\b(?:dsc|dss)_[A-Za-z0-9_-]{8,}|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*|(?<=://)[^/\s:@]*:[^\s@]+(?=@)"
)
_BLOT = "***"


class _OwnersFiles(logging.handlers.RotatingFileHandler):
    """Writes files that nobody but their owner reads, each that is begun."""

    def _open(self) -> io.TextIOWrapper:
        opened = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return io.TextIOWrapper(os.fdopen(opened, "ab"), encoding=self.encoding, errors=self.errors)


def configure_logging(level: str) -> None:
    """Send our log from `level` on, and that of the libraries from warnings on, to standard error."""
    _install(logging.StreamHandler(sys.stderr), level, {})


def configure_server_logging(settings: Settings, slot: int = 0) -> None:
    """Log as the settings say; `slot` is that of one of several processes. Raises InvalidSettings."""
    levels = levels_of(settings.log_levels)
    handler: logging.Handler
    if settings.log_file is None:
        handler = logging.StreamHandler(sys.stdout if settings.log_to == "stdout" else sys.stderr)
    else:
        path = settings.log_file if settings.workers == 1 else _of_slot(settings.log_file, slot)
        try:
            handler = _OwnersFiles(
                path, maxBytes=settings.log_file_bytes, backupCount=settings.log_files, encoding="utf-8"
            )
        except OSError as error:
            raise InvalidSettings(
                f"log_file: {path} cannot be written: {error.strerror}.",
                mend="Name a file in a folder that is there and may be written.",
                setting="log_file",
            ) from error
    _install(handler, settings.log_level, levels)


def levels_of(text: str) -> dict[str, int]:
    """Return levels by the name of a module, of `detection=debug, uvicorn=info`. Raises InvalidSettings.

    A name that is a module of Discern's may leave `discern.` out.
    """
    found: dict[str, int] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, level = (piece.strip() for piece in part.partition("="))
        if not equals or not name or level.lower() not in _LEVELS:
            raise InvalidSettings(
                f"log_levels: {part[:100]!r} says no level of a module.",
                mend=f"Write module=level, with commas; levels are {', '.join(_LEVELS)}.",
                setting="log_levels",
            )
        ours = (Path(__file__).parent.parent / name.split(".")[0]).exists() or (
            Path(__file__).parent.parent / f"{name.split('.')[0]}.py"
        ).exists()
        found[f"discern.{name}" if ours else name] = logging.getLevelNamesMapping()[level.upper()]
    return found


def _install(handler: logging.Handler, level: str, levels: Mapping[str, int]) -> None:
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        _with_origin,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[structlog.typing.Processor] = [
        _with_logger,
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _without_secrets,
        structlog.processors.JSONRenderer(),
    ]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=rendering, foreign_pre_chain=shared))
    ours = logging.getLevelNamesMapping()[level.upper()]
    for name in _named_before:
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.basicConfig(handlers=[handler], level=max(ours, logging.WARNING), force=True)
    logging.getLogger("discern").setLevel(ours)
    for name, own in levels.items():
        logging.getLogger(name).setLevel(own)
    _named_before.clear()
    _named_before.update(levels)


# Modules whose level was set by name, so that another configuration begins anew.
_named_before: set[str] = set()


def _of_slot(path: Path, slot: int) -> Path:
    return path.with_name(f"{path.stem}-{slot}{path.suffix}")


def _with_logger(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401
    record = event.get("_record")
    if record is not None:
        event["logger"] = record.name
    return event


def _with_origin(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401
    """Say what a line belongs to; the address it comes from is a person's, and stays out."""
    found = origin()
    for name, value in (
        ("request", found.request_id),
        ("workspace", found.workspace),
        ("trace", found.trace_id),
        ("span", found.span_id),
    ):
        if value:
            event.setdefault(name, value)
    return event


def _without_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401
    return {name: _blotted(value) for name, value in event.items()}


def _blotted(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, str):
        return _SECRETS.sub(_BLOT, value)
    if isinstance(value, dict):
        return {name: _blotted(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_blotted(one) for one in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return _SECRETS.sub(_BLOT, repr(value))  # as it would be rendered
