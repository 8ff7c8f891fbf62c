"""The nouns of bulk scoring.

- A run has one identity; the id of a verdict is the run's with the number of the row in its lowest bits, so a row has
  the same id however often the run was interrupted, and ids sort as the rows do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

import msgspec

ROW_BITS = 40
InputForm = Literal["parquet", "csv", "ndjson", "media"]


class Pin(msgspec.Struct, frozen=True, omit_defaults=True):
    """What tells that an input is the one it was: of a file its size and time, of an object its ETag.

    Of a folder `listing` is the SHA-256 of the names, sizes and times of its files.
    """

    size: int
    modified_ns: int | None = None
    etag: str | None = None
    listing: str | None = None
    files: int = 1


class RunState(msgspec.Struct, frozen=True):
    """What a run was begun with; it goes on only with the same."""

    run: str
    input: str
    pin: Pin
    detector: str
    version: str
    bundle: str
    options: dict[str, str | bool | None]
    started_at: Annotated[datetime, msgspec.Meta(tz=True)]
    format: int = 1


class Run(msgspec.Struct, frozen=True):
    """A run as it stands on the ledger. `output_sha256` and `finished_at` are None until it is done.

    `input_sha256` is of the file; of an object in S3 it is None and `input_etag` tells; of a folder it is of its
    listing. `decisions` counts rows by decision, `errors` those that could not be judged, by code. `variant` is as in a
    verdict.
    """

    id: str
    workspace: str
    principal: str
    detector: str
    version: str
    bundle_sha256: str
    input: str
    output: str
    started_at: Annotated[datetime, msgspec.Meta(tz=True)]
    input_sha256: str | None = None
    input_etag: str | None = None
    output_sha256: str | None = None
    rows: int = 0
    decisions: dict[str, int] = {}
    errors: dict[str, int] = {}
    finished_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    variant: str | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Dask cluster: the address of its scheduler, and the TLS files, all or none."""

    address: str
    tls_ca: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked for: score `input` (a path, a glob or an s3:// address) into `output`."""

    input: str
    output: Path
    id_column: str | None = None
    strict: bool = False
    restart: bool = False
    cluster: Cluster | None = None


@dataclass(slots=True)
class Totals:
    """Counts over the rows of a run."""

    rows: int = 0
    decisions: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    decided_by: dict[str, int] = field(default_factory=dict)
    degraded: int = 0

    @property
    def refused(self) -> int:
        """Rows that could not be judged."""
        return sum(self.errors.values())


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `total` rows, None where only the end of the input tells; `share` of the input, 0 to 1.

    `resumed` rows were there from before; `seconds` since this process began to score.
    """

    rows: int
    total: int | None
    share: float | None
    resumed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a run came to. `seconds` and `scored` are of this process; `totals` of the whole run."""

    run: Run
    totals: Totals
    scored: int
    seconds: float


Watcher = Callable[[Progress], None]


def run_of(identifier: UUID) -> UUID:
    """Return the id a run has when it is made from a fresh UUIDv7: with room for the rows' numbers."""
    return UUID(int=identifier.int >> ROW_BITS << ROW_BITS)
