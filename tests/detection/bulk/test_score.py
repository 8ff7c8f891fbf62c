"""Files in, verdicts out: the same verdicts as one by one, and an error where there is none."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from discern.access.types import Principal
from discern.app import Services, build_services, bulk_parts
from discern.core.errors import CallerError, EmptyInput, InvalidRecord, OperatorError, UnreadableInput, UnsupportedInput
from discern.core.verdict import Verdict
from discern.detection.bulk.service import score_file
from discern.detection.bulk.store import RunStore
from discern.detection.bulk.types import Job, Progress
from discern.detection.types import DetectionRequest
from discern.settings import load_settings
from tests import media
from tests.detection.bulk.conftest import Score, toy_table
from tests.detectors import models
from tests.homes import take_in

CALLER = Principal("tests", "default")


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def without_ids(path: Path) -> Any:
    return pq.read_table(path).drop_columns(["verdict_id"])


def asked(services: Services, detector: str, content: Any) -> Verdict:
    """The verdict on one input by itself."""

    async def ask() -> Verdict:
        return await services.detect(DetectionRequest(CALLER, detector, content))

    return asyncio.run(ask())


@pytest.mark.usefixtures("small_pieces")
def test_a_table_gets_the_verdicts_its_records_get_one_by_one(
    table_file: Path, tmp_path: Path, score: Score, services: Services
) -> None:
    report = score(table_file, tmp_path / "out.parquet", id_column="payment")
    rows = rows_of(tmp_path / "out.parquet")
    assert [row["row"] for row in rows] == list(range(1500))
    assert [row["id"] for row in rows] == [f"p{row}" for row in range(1500)]
    records = pq.read_table(table_file).select(["a", "b", "c"]).to_pylist()
    for row, record in list(zip(rows, records, strict=True))[::100]:
        verdict = asked(services, "toy-record", record)
        assert (row["score"], row["decision"], row["label"]) == (
            pytest.approx(verdict.score, abs=1e-6),
            verdict.decision,
            verdict.label,
        )
        assert (row["decided_by"], row["score_only"], row["degraded"]) == ("only", row["score"], None)
    assert report.totals.rows == report.scored == 1500
    assert report.totals.decisions == {
        word: sum(row["decision"] == word for row in rows) for word in ("clear", "review", "flag")
    }
    assert all(row["error_code"] is None and row["error"] is None for row in rows)


def test_a_verdict_has_the_id_of_its_run_and_row(table_file: Path, tmp_path: Path, score: Score) -> None:
    report = score(table_file, tmp_path / "out.parquet")
    run = UUID(report.run.id)
    found = [UUID(bytes=value) if isinstance(value, bytes) else value for value in _ids(tmp_path / "out.parquet")]
    assert [one.int for one in found] == [run.int + row + 1 for row in range(1500)]
    assert {one.version for one in [run, *found]} == {7}


def _ids(path: Path) -> list[Any]:
    ids: list[Any] = pq.read_table(path).column("verdict_id").to_pylist()
    return ids


def test_the_run_is_on_the_ledger(table_file: Path, tmp_path: Path, score: Score, services: Services) -> None:
    report = score(table_file, tmp_path / "out.parquet")
    run = RunStore(services.database).get("default", UUID(report.run.id))
    assert run == report.run
    assert run is not None
    assert run.input_sha256 == hashlib.sha256(table_file.read_bytes()).hexdigest()
    assert run.output_sha256 == hashlib.sha256((tmp_path / "out.parquet").read_bytes()).hexdigest()
    assert (run.principal, run.detector, run.version, run.rows) == ("local", "toy-record", "1.0.0", 1500)
    assert sum(run.decisions.values()) == 1500
    assert run.finished_at is not None
    assert run.started_at <= run.finished_at
    assert not (tmp_path / "out.parquet.unfinished").exists()
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.usefixtures("small_pieces")
def test_csv_and_ndjson_give_what_parquet_gives(table_file: Path, tmp_path: Path, score: Score) -> None:
    table = pq.read_table(table_file)
    pa_csv.write_csv(table, tmp_path / "records.csv")
    tabs = pa_csv.WriteOptions(delimiter="\t", quoting_style="none")
    pa_csv.write_csv(table, tmp_path / "records.tsv", tabs)
    lines = "\n\n".join(json.dumps(record) for record in table.to_pylist())
    (tmp_path / "records.ndjson").write_text(lines)
    score(table_file, tmp_path / "expected.parquet", id_column="payment")
    for name in ("records.csv", "records.tsv", "records.ndjson"):
        score(tmp_path / name, tmp_path / "out.parquet", id_column="payment", restart=True)
        assert without_ids(tmp_path / "out.parquet").equals(without_ids(tmp_path / "expected.parquet")), name


def test_bad_rows_of_parquet_have_their_error_and_spoil_no_other(tmp_path: Path, score: Score) -> None:
    table = toy_table(6).set_column(1, "a", pa.array([0.0, 101.0, None, float("nan"), 0.0, 0.0]))
    pq.write_table(table, tmp_path / "in.parquet")
    report = score(tmp_path / "in.parquet", tmp_path / "out.parquet")
    rows = rows_of(tmp_path / "out.parquet")
    assert [row["error_code"] for row in rows] == [None, *["invalid_record"] * 3, None, None]
    assert rows[1]["error"] == "The record has 1 fault: a: 101.0 is above the maximum 100.0."
    assert rows[2]["error"] == "The record has 1 fault: a: missing."
    assert {name for name, value in rows[1].items() if value is not None} == {"row", "error_code", "error"}
    assert (report.totals.errors, report.totals.refused) == ({"invalid_record": 3}, 3)
    good = toy_table(6).take(pa.array([0, 4, 5])).set_column(1, "a", pa.array([0.0, 0.0, 0.0]))
    pq.write_table(good, tmp_path / "good.parquet")
    score(tmp_path / "good.parquet", tmp_path / "alone.parquet")
    assert [rows[row]["score"] for row in (0, 4, 5)] == [row["score"] for row in rows_of(tmp_path / "alone.parquet")]


@pytest.mark.usefixtures("small_pieces")
def test_bad_rows_of_csv_have_their_error_and_spoil_no_other(tmp_path: Path, score: Score) -> None:
    lines = ["id,a,b,c"]
    bad: dict[int, str] = {}
    for row in range(1000):
        cells = [f"n{row}", "1.5", "-2", "3e0"]
        if row % 97 == 0:
            cells, bad[row] = [*cells, "more"], "malformed_request"
        elif row % 89 == 0:
            cells[1], bad[row] = "many", "invalid_record"
        elif row % 83 == 0:
            cells[2], bad[row] = "", "invalid_record"
        lines.append(",".join(cells))
    lines.append("last,1")
    bad[1000] = "malformed_request"
    (tmp_path / "in.csv").write_text("\n".join(lines))
    score(tmp_path / "in.csv", tmp_path / "out.parquet", id_column="id")
    rows = rows_of(tmp_path / "out.parquet")
    assert {row["row"]: row["error_code"] for row in rows if row["error_code"]} == bad
    assert [row["row"] for row in rows] == list(range(1001))
    assert rows[0]["error"] == "The row has 5 cells, the header 4."
    assert rows[89]["error"] == "The record has 1 fault: a: 'many' is not a number."
    assert [row["id"] for row in rows] == [
        None if bad.get(row) == "malformed_request" else f"n{row}" for row in range(1001)
    ]


def test_a_cell_that_is_not_utf_8_is_a_bad_one_and_spoils_no_other(tmp_path: Path, score: Score) -> None:
    (tmp_path / "in.csv").write_bytes(b"id,a,b,c\nx,1,2,3\ny,1\xe9,2,3\nz\xe9,1,2,3\n")
    score(tmp_path / "in.csv", tmp_path / "out.parquet", id_column="id")
    rows = rows_of(tmp_path / "out.parquet")
    assert [row["error_code"] for row in rows] == [None, "invalid_record", None]
    assert [row["id"] for row in rows] == ["x", "y", "z\ufffd"]


def test_bad_lines_of_ndjson_have_their_error_and_spoil_no_other(tmp_path: Path, score: Score) -> None:
    good = b'{"a":1,"b":2,"c":3,"id":7}'
    lines = [good, b'{"a":1,', b"[1]", b'{"a":"1","b":2,"c":3}', b'{"a":1' + b" " * 20_000 + b"}", b"\xff", b"", good]
    (tmp_path / "in.ndjson").write_bytes(b"\n".join(lines))
    score(tmp_path / "in.ndjson", tmp_path / "out.parquet", id_column="id")
    rows = rows_of(tmp_path / "out.parquet")
    assert [row["error_code"] for row in rows] == [
        None,
        "malformed_request",
        "malformed_request",
        "invalid_record",
        "input_too_large",
        "malformed_request",
        None,
    ]
    assert [rows[0]["id"], rows[6]["id"], rows[0]["score"]] == ["7", "7", rows[6]["score"]]


def test_a_line_beyond_every_measure_is_not_held(tmp_path: Path, score: Score) -> None:
    with (tmp_path / "in.ndjson").open("wb") as file:
        file.write(b'{"a":1,"b":2,"c":3}\n{"a":"')
        for _ in range(64):
            file.write(b"x" * 2**20)
        file.write(b'"}\n{"a":1,"b":2,"c":3}')
    score(tmp_path / "in.ndjson", tmp_path / "out.parquet")
    assert [row["error_code"] for row in rows_of(tmp_path / "out.parquet")] == [None, "input_too_large", None]


def test_types_that_mean_the_same_number_give_the_same_score(tmp_path: Path, score: Score) -> None:
    numbers = [1, -2, 3, None]
    for name, kind in {
        "plain": pa.float64(),
        "int": pa.int8(),
        "half": pa.float32(),
        "exact": pa.decimal128(9, 2),
    }.items():
        values = [None if one is None else Decimal(one) if name == "exact" else one for one in numbers]
        columns = {"a": pa.array(values, kind), "b": pa.array([0.5] * 4), "c": pa.array([1] * 4)}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
        score(tmp_path / f"{name}.parquet", tmp_path / f"{name}-out.parquet")
        assert (
            without_ids(tmp_path / f"{name}-out.parquet")
            .drop_columns(["error"])
            .equals(without_ids(tmp_path / "plain-out.parquet").drop_columns(["error"]))
        )


@pytest.mark.parametrize(
    ("rename", "options", "reason"),
    [
        ({"b": "B"}, {}, r"b: missing \(did you mean the column B\?\)"),
        ({"b": "x", "c": "y"}, {}, r"b: missing; c: missing"),
        ({}, {"strict": True}, "payment: the detector has no such field; label: the detector has no such field"),
        ({}, {"strict": True, "id_column": "payment"}, "fit the detector: label: the detector has no such field"),
        ({}, {"id_column": "paymnt"}, "Did you mean payment"),
        ({"b": "a"}, {}, "Columns stand twice: a"),
    ],
)
def test_columns_that_do_not_fit_are_named_before_anything_is_scored(
    tmp_path: Path, score: Score, rename: dict[str, str], options: dict[str, Any], reason: str
) -> None:
    table = toy_table(3)
    pq.write_table(
        table.rename_columns([rename.get(name, name) for name in table.column_names]), tmp_path / "in.parquet"
    )
    with pytest.raises(InvalidRecord, match=reason):
        score(tmp_path / "in.parquet", tmp_path / "out.parquet", **options)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(("out", "."))] == []


def test_a_column_of_the_wrong_type_is_named_before_anything_is_scored(tmp_path: Path, score: Score) -> None:
    table = toy_table(2).set_column(1, "a", pa.array(["1", "2"]))
    pq.write_table(table.set_column(2, "b", pa.array([datetime.now(UTC)] * 2)), tmp_path / "in.parquet")
    with pytest.raises(InvalidRecord, match=r"a: a column of string, the field is a number; b: a column of timestamp"):
        score(tmp_path / "in.parquet", tmp_path / "out.parquet")


def test_columns_that_are_not_read_are_said(table_file: Path, tmp_path: Path, score: Score) -> None:
    notes: list[str] = []
    score(table_file, tmp_path / "out.parquet", notes=notes)
    assert notes == ["Columns that are not read: payment, label."]


def test_a_table_without_rows_gives_one(tmp_path: Path, score: Score) -> None:
    (tmp_path / "in.csv").write_text("a,b,c\n")
    pq.write_table(toy_table(0), tmp_path / "in.parquet")
    for name in ("in.csv", "in.parquet"):
        assert score(tmp_path / name, tmp_path / f"{name}.out").totals.rows == 0
        assert pq.read_table(tmp_path / f"{name}.out").num_rows == 0


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", EmptyInput),
        (b"\n\na,b,c\n", EmptyInput),
        (b"PAR1 but no more", UnreadableInput),
        (b"\x00\x01\x02,", UnreadableInput),
        (b"\xff\xfe,a", UnreadableInput),
        (b"x,y\n1,2\n", InvalidRecord),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, score: Score, content: bytes, error: type[CallerError]) -> None:
    (tmp_path / "in").write_bytes(content)
    with pytest.raises(error):
        score(tmp_path / "in", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_a_parquet_file_that_ends_in_the_middle_of_its_rows_is_refused(
    table_file: Path, tmp_path: Path, score: Score
) -> None:
    content = bytearray(table_file.read_bytes())
    content[2000:20_000] = b"\x55" * 18_000
    table_file.write_bytes(bytes(content))
    with pytest.raises(UnreadableInput, match=r"records\.parquet cannot be read"):
        score(table_file, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_what_is_not_there_is_refused(tmp_path: Path, score: Score) -> None:
    with pytest.raises(UnreadableInput, match="is not there"):
        score(tmp_path / "nothing.parquet", tmp_path / "out.parquet")
    (tmp_path / "in.csv").write_text("a,b,c\n1,2,3\n")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableInput, match="is not a regular file"):
        score(tmp_path / "pipe", tmp_path / "out.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableInput, match="There is no file in"):
        score(tmp_path / "empty", tmp_path / "out.parquet", "toy-image")
    for place in (tmp_path, Path("/dev/null"), Path(".")):  # noqa: PTH201 - what is typed
        with pytest.raises(CallerError, match=r"is not a regular file|names no file"):
            score(tmp_path / "in.csv", place, restart=True)
    with pytest.raises(OperatorError, match="cannot be written"):
        score(tmp_path / "in.csv", tmp_path / "nowhere" / "out.parquet")


def test_a_folder_of_media_gets_the_verdicts_its_files_get_one_by_one(
    tmp_path: Path, score: Score, services: Services
) -> None:
    folder = tmp_path / "media"
    (folder / "more").mkdir(parents=True)
    for number in range(20):
        grey = Image.fromarray(np.full((40, 40, 3), number * 12, np.uint8))
        (folder / f"{number:02}.png").write_bytes(media.encoded(grey, "PNG"))
    (folder / "more" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    report = score(folder, tmp_path / "out.parquet", "toy-cascade")
    rows = rows_of(tmp_path / "out.parquet")
    assert [Path(row["input"]).name for row in rows] == [*(f"{number:02}.png" for number in range(20)), "broken.jpg"]
    assert rows[20]["error_code"] == "unreadable_input"
    for row in rows[:20]:
        verdict = asked(services, "toy-cascade", Path(row["input"]))
        assert (row["score"], row["decision"], row["decided_by"]) == (
            verdict.score,
            verdict.decision,
            verdict.decided_by,
        )
        assert [row["score_screen"], row["score_expert"]][: len(verdict.stages)] == [
            one.score for one in verdict.stages
        ]
    assert {row["decided_by"] for row in rows[:20]} == {"screen", "expert"}
    assert report.totals.decided_by["screen"] + report.totals.decided_by["expert"] == 20
    again = score(str(folder / "0*.png"), tmp_path / "glob.parquet", "toy-cascade")
    assert again.totals.rows == 10


def test_a_folder_is_no_table_and_media_have_no_columns(tmp_path: Path, score: Score) -> None:
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("a,b,c\n1,2,3\n")
    with pytest.raises(UnsupportedInput, match="names 2 files"):
        score(str(tmp_path / "*.csv"), tmp_path / "out.parquet")
    with pytest.raises(UnsupportedInput, match="--id names a column"):
        score(tmp_path / "one.csv", tmp_path / "out.parquet", "toy-image", id_column="a")


def test_progress_is_told_piece_by_piece(table_file: Path, tmp_path: Path, score: Score, small_pieces: None) -> None:
    told: list[Progress] = []
    score(table_file, tmp_path / "out.parquet", watch=told.append)
    assert [one.rows for one in told] == sorted(one.rows for one in told)
    assert (told[-1].rows, told[-1].total, told[-1].share) == (1500, 1500, 1.0)
    (tmp_path / "in.csv").write_text("a,b,c\n" + "1,2,3\n" * 3000)
    told.clear()
    score(tmp_path / "in.csv", tmp_path / "csv.parquet", watch=told.append)
    assert told[-1].share == 1.0
    assert all(one.share is not None and 0 < one.share <= 1 for one in told)


def test_a_run_on_the_ledger_names_the_variant_that_scored(home: Path, table_file: Path, tmp_path: Path) -> None:
    variant = {"name": "turned", "models": {"only": "turned/only.onnx"}, "evidence": {"margin": 0.01}}
    manifest = models.record_manifest(name="toy-turned", variants=[variant], serves="turned")
    take_in(home, manifest, {**models.RECORD_FILES, "turned/only.onnx": models.record_model(weights=(-1.0, 2.0, -0.5))})
    for chosen, named in (("served", "turned"), ("fp32", msgspec.UNSET)):
        services = build_services(load_settings({"DISCERN_HOME": str(home), "DISCERN_VARIANT": chosen}))
        services.open()
        parts, job = bulk_parts(services), Job(str(table_file), tmp_path / f"{chosen}.parquet")
        run = score_file(job, ("toy-turned", None), parts, watch=lambda _: None, note=lambda _: None).run
        kept = RunStore(services.database).get("default", UUID(run.id))
        services.close()
        assert kept == run
        assert run.variant == named
