"""Tables of toy records, and the service that scores them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from discern.app import Services, bulk_parts
from discern.detection.bulk.service import score_file
from discern.detection.bulk.types import Job, Progress, Report

Score = Callable[..., Report]


def toy_table(rows: int, seed: int = 1) -> Any:
    """Records of toy-record, whose fields are numbers from -100 to 100, with a name for each and a label."""
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "payment": [f"p{row}" for row in range(rows)],
            **{name: random.normal(0, 2, rows) for name in "abc"},
            "label": random.integers(0, 2, rows),
        }
    )


@pytest.fixture
def table_file(tmp_path: Path) -> Path:
    """Two row groups of toy records: 1,500 rows."""
    path = tmp_path / "records.parquet"
    pq.write_table(toy_table(1500), path, row_group_size=1000)
    return path


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 128 rows."""
    monkeypatch.setattr("discern.detection.bulk.sources_tables.PART_ROWS", 128)
    monkeypatch.setattr("discern.detection.bulk.sources_tables._LEAST_ROWS", 1)
    monkeypatch.setattr("discern.detection.bulk.sources_tables._CSV_BLOCK_BYTES", 4096)
    monkeypatch.setattr("discern.detection.bulk.sources_lines.PART_LINES", 128)


@pytest.fixture
def score(services: Services) -> Score:
    """Score an input with a toy; what was noted is in `notes`."""

    def run(
        source: Path | str,
        output: Path,
        detector: str = "toy-record",
        *,
        watch: Callable[[Progress], None] = lambda _: None,
        notes: list[str] | None = None,
        **options: Any,
    ) -> Report:
        said = [] if notes is None else notes
        job = Job(str(source), output, **options)
        return score_file(job, (detector, None), bulk_parts(services), watch=watch, note=said.append)

    return run
