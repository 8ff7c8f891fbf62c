"""Jobs whose inputs and results are kept in S3: shared by machines, judged without a copy, refused when changed."""

from __future__ import annotations

import base64
import io
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from discern.app import Services
from discern.core.errors import ObjectsUnavailable
from discern.core.ids import uuid7
from discern.store.objects import ObjectAccess, ObjectStore
from tests.http.test_jobs import Served, jpeg, ndjson, until
from tests.media import clip

pytestmark = pytest.mark.system
MARK = b"an-unlikely-row-of-bytes-51ab"


@pytest.fixture
def in_s3(aws_endpoint: str, make_bucket: Callable[[str], None]) -> dict[str, str]:
    """The settings of an installation that keeps its objects in a bucket, under a master key that machines share."""
    bucket = f"jobs-{uuid7().hex}"
    make_bucket(bucket)
    return {
        "DISCERN_OBJECTS_URL": f"s3://{bucket}/kept",
        "DISCERN_S3_ENDPOINT": aws_endpoint,
        "DISCERN_S3_REGION": "us-east-1",
        "DISCERN_S3_ACCESS_KEY": "AKIATEST",
        "DISCERN_S3_SECRET_KEY": "hidden-word",
        "DISCERN_MASTER_KEY": "secret",
        "DISCERN_MASTER_SECRET": base64.b64encode(os.urandom(32)).decode(),
    }


def store_of(settings: dict[str, str]) -> ObjectStore:
    access = ObjectAccess(settings["DISCERN_S3_ENDPOINT"], "us-east-1", "AKIATEST", "hidden-word")
    return ObjectStore(settings["DISCERN_OBJECTS_URL"], access)


@pytest.fixture
def one(tmp_path: Path, furnished_home: Path, in_s3: dict[str, str]) -> Iterator[Served]:
    """A server over S3 that may be ended."""
    served = Served(Path(shutil.copytree(furnished_home, tmp_path / "one")), **in_s3, DISCERN_JOBS_AT_A_TIME="1")
    yield served
    served.end()


def test_two_machines_that_share_no_folder_finish_each_others_jobs(
    tmp_path: Path, furnished_home: Path, postgresql_url: str, in_s3: dict[str, str]
) -> None:
    def machine(name: str) -> Served:
        home = Path(shutil.copytree(furnished_home, tmp_path / name))
        return Served(home, DISCERN_DATABASE_URL=postgresql_url, **in_s3)

    first, second = machine("first"), machine("second")
    jobs = [first.submit("toy-image", clip())["id"] for _ in range(4)]
    table = first.submit("toy-record", ndjson(400_000), **{"Content-Type": "application/x-ndjson"})
    until(lambda: first.job(table["id"])["rows"] > 0)
    first.process.kill()
    first.process.wait()
    first.client.close()
    assert all(second.ended(job_id)["state"] == "done" for job_id in jobs)
    assert second.ended(table["id"], 100)["rows"] == 400_000
    answer = second.client.get(second.url(f"/v1/jobs/{table['id']}/result"))
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    result = pq.read_table(io.BytesIO(answer.content))
    assert result.num_rows == 400_000
    assert result["row"].to_pylist()[-1] == 399_999
    until(lambda: len(list(store_of(in_s3).all(""))) == 1)  # the result alone
    second.end()


def test_an_input_is_nowhere_in_the_clear_while_it_waits(one: Served, in_s3: dict[str, str]) -> None:
    big = one.submit("toy-record", ndjson(300_000), **{"Content-Type": "application/x-ndjson"})
    content = clip(comment=MARK.decode())
    assert MARK in content
    waits = one.submit("toy-image", content)
    assert one.job(waits["id"])["state"] == "waiting"
    store = store_of(in_s3)
    for each in list(store.all("")):
        found = store.read(each.path, 0, 10_000_000)
        assert found is None or MARK not in found[0]
    files = [path for path in one.home.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if MARK in path.read_bytes()] == []
    assert one.ended(waits["id"])["state"] == "done"
    assert one.ended(big["id"])["state"] == "done"


def test_an_input_that_was_changed_is_not_judged(one: Served, in_s3: dict[str, str], aws_client: Any) -> None:
    big = one.submit("toy-record", ndjson(300_000), **{"Content-Type": "application/x-ndjson"})
    job = one.submit("toy-image", clip())
    connection = sqlite3.connect(one.home / "discern.db")
    folder = f"jobs/{job['id']}"
    ((object_id,),) = connection.execute("SELECT id FROM objects WHERE folder = ?", [folder]).fetchall()
    connection.close()
    found = store_of(in_s3).read(object_id, 0, 10_000_000)
    assert found is not None
    content = bytearray(found[0])
    content[len(content) // 2] ^= 1
    bucket = in_s3["DISCERN_OBJECTS_URL"].split("/")[2]
    aws_client("s3").put_object(Bucket=bucket, Key=f"kept/{object_id}", Body=bytes(content))
    ended = one.ended(job["id"])
    assert (ended["state"], ended["error"]["code"]) == ("failed", "object_refused")
    assert one.client.get(one.url(f"/v1/verdicts/{job['verdict_id']}")).status_code == 404
    assert one.ended(big["id"])["state"] == "done"


def test_a_store_that_is_down_is_said_and_detection_goes_on(
    tmp_path: Path, furnished_home: Path, in_s3: dict[str, str]
) -> None:
    home = Path(shutil.copytree(furnished_home, tmp_path / "home"))
    served = Served(home, **(in_s3 | {"DISCERN_S3_ENDPOINT": "http://127.0.0.1:9"}))
    until(lambda: served.client.get(served.url("/readyz")).json()["parts"]["objects"] == "objects_unavailable")
    assert served.client.get(served.url("/readyz")).status_code == 200
    answer = served.client.post(served.url("/v1/detectors/toy-image/jobs"), content=jpeg())
    assert (answer.status_code, answer.json()["code"]) == (503, "objects_unavailable")
    assert served.client.get(served.url("/v1/jobs")).json()["jobs"] == []
    assert served.client.post(served.url("/v1/detectors/toy-image/verdicts"), content=jpeg()).status_code == 200
    served.end()


def test_ready_tells_of_objects(services: Services, client: Any) -> None:
    assert client.get("/readyz").json()["parts"]["objects"] == "ok"
    services.objects._fault = ObjectsUnavailable("down")
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["parts"]["objects"]) == (200, "objects_unavailable")
