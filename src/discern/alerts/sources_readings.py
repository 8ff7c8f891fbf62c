"""The last reading of counters, kept in a file for whoever evaluates this machine next.

- What a counter grew by while one process died and another took over is not lost.
- A file that is old, or cannot be read, counts as none.
- What whoever died while writing it has left is taken away by whoever comes next.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from discern.monitoring.types import Sample

log = logging.getLogger(__name__)
_OLDEST = timedelta(seconds=60)


class _Kept(msgspec.Struct):
    at: datetime
    samples: list[Sample]


_decode = msgspec.msgpack.Decoder(_Kept).decode
_encode = msgspec.msgpack.Encoder().encode


class LastReading:
    """The file. Losing it loses no more than what was counted during a change of processes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self, at: datetime, samples: Sequence[Sample]) -> None:
        """Keep a reading in place of the last."""
        coming = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            coming.write_bytes(_encode(_Kept(at, list(samples))))
            coming.replace(self._path)
        except OSError as error:
            log.warning("reading_not_kept", extra={"detail": str(error)})

    def find(self, now: datetime) -> tuple[timedelta, list[Sample]] | None:
        """Return the last reading and how old it is; None where there is none that is fresh."""
        self._tidy()
        try:
            kept = _decode(self._path.read_bytes())
        except (OSError, msgspec.MsgspecError):
            return None
        age = now - kept.at
        return (age, kept.samples) if timedelta() <= age <= _OLDEST else None

    def _tidy(self) -> None:
        # Who is still at it keeps no reading for once.
        for left in self._path.parent.glob(f"{self._path.name}.*"):
            with suppress(OSError):
                left.unlink()
