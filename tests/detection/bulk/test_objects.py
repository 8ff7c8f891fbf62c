"""Inputs in S3, on a real server of its interface, without a key in any message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from discern.app import Services, build_services, bulk_parts
from discern.core.errors import OperatorError, UnreadableInput
from discern.detection.bulk.service import score_file
from discern.detection.bulk.sources import find_place
from discern.detection.bulk.types import Job, Progress, Report, Watcher
from discern.settings import Settings, load_settings
from discern.store.objects import ObjectAccess
from tests import media
from tests.detection.bulk.conftest import Score, toy_table
from tests.detection.bulk.test_score import rows_of, without_ids

obstore: Any = pytest.importorskip("obstore", reason="obstore is not installed: the extra `bulk` has it")
boto3: Any = pytest.importorskip("boto3")

SECRET = "wJalrXUtnFEMI-not-a-real-secret"


@pytest.fixture
def endpoint(aws_endpoint: str) -> str:
    """The address of an S3 server."""
    return aws_endpoint


@pytest.fixture
def in_s3(settings: Settings, endpoint: str) -> Iterator[Services]:
    """An installation that reads from it."""
    changed = replace(
        settings, s3_endpoint=endpoint, s3_region="us-east-1", s3_access_key="AKIATEST", s3_secret_key=SECRET
    )
    services = build_services(changed)
    services.open()
    yield services
    services.close()


def put(endpoint: str, bucket: str, key: str, content: bytes) -> None:
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="AKIATEST", aws_secret_access_key=SECRET
    )
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key=key, Body=content)


def scored(
    services: Services,
    source: str,
    output: Path,
    detector: str = "toy-record",
    *,
    watch: Watcher = lambda _: None,
    **options: Any,
) -> Report:
    job = Job(source, output, **options)
    return score_file(job, (detector, None), bulk_parts(services), watch=watch, note=lambda _: None)


@pytest.mark.system
@pytest.mark.usefixtures("small_pieces")
class TestFromS3:
    def test_a_table_gets_the_verdicts_it_gets_as_a_file(
        self, in_s3: Services, endpoint: str, table_file: Path, tmp_path: Path, score: Score
    ) -> None:
        score(table_file, tmp_path / "expected.parquet", id_column="payment")
        put(endpoint, "payments", "in/records.parquet", table_file.read_bytes())
        report = scored(in_s3, "s3://payments/in/records.parquet", tmp_path / "out.parquet", id_column="payment")
        assert without_ids(tmp_path / "out.parquet").equals(without_ids(tmp_path / "expected.parquet"))
        assert report.run.input_sha256 is None
        assert report.run.input_etag
        lines = "".join(f'{{"a":{row / 9},"b":1,"c":2}}\n' for row in range(300))
        for name, content in (("one.csv", "a,b,c\n1,2,3\n4,5,6\n"), ("one.ndjson", lines)):
            put(endpoint, "payments", name, content.encode())
            (tmp_path / name).write_text(content)
            score(tmp_path / name, tmp_path / f"{name}-here")
            scored(in_s3, f"s3://payments/{name}", tmp_path / f"{name}-there")
            assert without_ids(tmp_path / f"{name}-here").equals(without_ids(tmp_path / f"{name}-there"))

    def test_a_prefix_of_media_is_a_folder(self, in_s3: Services, endpoint: str, tmp_path: Path) -> None:
        for number in range(3):
            grey = Image.fromarray(np.full((40, 40, 3), number * 120, np.uint8))
            put(endpoint, "pictures", f"day/{number}.png", media.encoded(grey, "PNG"))
        put(endpoint, "pictures", "day/broken.png", b"nothing")
        scored(in_s3, "s3://pictures/day/", tmp_path / "out.parquet", "toy-image")
        rows = rows_of(tmp_path / "out.parquet")
        assert [row["input"] for row in rows] == [f"s3://pictures/day/{name}.png" for name in ("0", "1", "2", "broken")]
        assert [row["error_code"] for row in rows] == [None, None, None, "unsupported_input"]

    def test_an_object_that_changed_is_not_gone_on_with(
        self, in_s3: Services, endpoint: str, table_file: Path, tmp_path: Path
    ) -> None:
        def stop(_: Progress) -> None:
            raise KeyboardInterrupt

        address, output = "s3://payments/changing.parquet", tmp_path / "out.parquet"
        put(endpoint, "payments", "changing.parquet", table_file.read_bytes())
        with pytest.raises(KeyboardInterrupt):
            scored(in_s3, address, output, watch=stop)
        pq.write_table(toy_table(1500, seed=9), tmp_path / "other.parquet")
        put(endpoint, "payments", "changing.parquet", (tmp_path / "other.parquet").read_bytes())
        with pytest.raises(OperatorError, match="the input has changed"):
            scored(in_s3, address, output)
        put(endpoint, "payments", "changing.parquet", table_file.read_bytes())
        assert scored(in_s3, address, output).scored < 1500

    def test_what_is_not_there_is_said_without_a_key(self, in_s3: Services, endpoint: str, tmp_path: Path) -> None:
        put(endpoint, "payments", "some.csv", b"a")
        for address in ("s3://payments/none.csv", "s3://payments/none/", "s3://nowhere/none.csv"):
            with pytest.raises((UnreadableInput, OperatorError)) as caught:
                scored(in_s3, address, tmp_path / "out.parquet")
            assert SECRET not in str(caught.value)
            assert "AKIATEST" not in str(caught.value)


def test_a_server_that_does_not_answer_is_said_without_a_key() -> None:
    access = ObjectAccess("http://127.0.0.1:9", "us-east-1", "AKIATEST", SECRET)
    place = find_place("s3://payments/none.csv", access)
    with pytest.raises(OperatorError, match="cannot be read") as caught:
        place.pin()
    assert SECRET not in str(caught.value) + repr(access)
    assert "AKIATEST" not in str(caught.value) + repr(access)


def test_keys_come_from_our_settings_or_from_the_usual_variables(tmp_path: Path) -> None:
    usual = {
        "DISCERN_HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": "token",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    }
    found = load_settings(usual)
    assert (found.s3_access_key, found.s3_secret_key, found.s3_session_token) == ("AKIATEST", SECRET, "token")
    assert (found.s3_region, found.s3_endpoint) == ("eu-west-1", "http://127.0.0.1:9")
    ours = load_settings(usual | {"DISCERN_S3_ACCESS_KEY": "OURS", "DISCERN_S3_SECRET_KEY": "too"})
    assert (ours.s3_access_key, ours.s3_secret_key, ours.s3_session_token) == ("OURS", "too", "")
    for settings in (found, ours):
        assert not {SECRET, "token", "AKIATEST", "OURS", "too'"} & set(repr(settings).replace("'", " ").split())
        assert SECRET not in repr(settings)
