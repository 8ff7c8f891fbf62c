"""Jobs on real servers: followed, cancelled, told of, and carried on after a death."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from discern.app import build_services
from discern.core.signatures import is_signed
from discern.settings import load_settings
from tests.inputs.media import clip, picture
from tests.ports import free_port

pytestmark = pytest.mark.system

FAST = {"DISCERN_JOB_LEASE_SECONDS": "3", "DISCERN_LOG_LEVEL": "error", "DISCERN_WEBHOOK_ALLOW": "127.0.0.0/8"}


class Served:
    """A server in a home of its own, which can die and come again."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.environment = FAST | environment
        settings = {"DISCERN_HOME": str(home)} | {
            key: value for key, value in environment.items() if key == "DISCERN_DATABASE_URL"
        }
        services = build_services(load_settings(settings))
        services.open()
        self.client = httpx2.Client(
            headers={"Authorization": f"Bearer {services.keys.issue('default', 'test', role='owner').secret}"},
            timeout=30,
        )
        services.close()
        self.port = free_port()
        self.start()

    def start(self, *arguments: str) -> None:
        settings = self.environment | {
            "DISCERN_HOME": str(self.home),
            "DISCERN_PORT": str(self.port),
            "PATH": os.environ["PATH"],
        }
        command = [sys.executable, "-m", "discern.cli.main", "up", *arguments]
        self.process = subprocess.Popen(command, env=settings, stdout=subprocess.DEVNULL)
        until(self.is_ready)

    def is_ready(self) -> bool:
        try:
            return self.client.get(self.url("/readyz")).status_code == 200
        except httpx2.HTTPError:
            return False

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def submit(self, name: str, content: bytes, query: str = "", **headers: str) -> dict[str, Any]:
        answer = self.client.post(self.url(f"/v1/detectors/{name}/jobs{query}"), content=content, headers=headers)
        assert answer.status_code == 202, answer.text
        assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
        job: dict[str, Any] = answer.json()
        return job

    def job(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = self.client.get(self.url(f"/v1/jobs/{job_id}")).json()
        return job

    def ended(self, job_id: str, seconds: float = 60) -> dict[str, Any]:
        until(lambda: self.job(job_id)["state"] in {"done", "failed", "cancelled"}, seconds)
        return self.job(job_id)

    def kept(self, job_id: str) -> list[str]:
        """Return the names of a job's objects, whatever their state; see that others lie nowhere."""
        with contextlib.closing(sqlite3.connect(self.home / "discern.db")) as connection:
            rows = connection.execute("SELECT id, folder, name FROM objects").fetchall()
        bytes_of = {path.name.partition("#")[0] for path in (self.home / "objects").glob("*")}
        assert bytes_of <= {row[0] for row in rows}
        return sorted(name for _, folder, name in rows if folder == f"jobs/{job_id}")

    def end(self) -> None:
        self.process.terminate()
        assert self.process.wait(40) == 0
        self.client.close()


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, furnished_home: Path) -> Iterator[Served]:
    served = Served(Path(shutil.copytree(furnished_home, tmp_path_factory.mktemp("jobs") / "home")))
    yield served
    served.end()


@pytest.fixture
def alone(tmp_path: Path, furnished_home: Path) -> Iterator[Served]:
    """A server that the test may end."""
    served = Served(Path(shutil.copytree(furnished_home, tmp_path / "home")))
    yield served
    served.end()


class Hook:
    """A webhook: what it got, and what it answers."""

    def __init__(self, *statuses: int) -> None:
        self.calls: list[tuple[bytes, dict[str, str]]] = []
        answers = list(statuses)
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.calls.append((body, dict(self.headers)))
                self.send_response(answers.pop(0) if answers else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook(500)
    yield hook
    hook.close()


def jpeg() -> bytes:
    out = io.BytesIO()
    picture().save(out, "JPEG")
    return out.getvalue()


def ndjson(rows: int) -> bytes:
    return b"".join(json.dumps({"a": row / rows, "b": 0.5, "c": -1}).encode() + b"\n" for row in range(rows))


def test_a_job_comes_to_a_verdict_on_the_ledger_and_leaves_nothing_behind(served: Served) -> None:
    job = served.submit("toy-image", clip())
    assert (job["state"], job["kind"], job["bytes"]) == ("waiting", "input", len(clip()))
    ended = served.ended(job["id"])
    assert (ended["state"], ended["progress"], ended["error"]) == ("done", 1.0, None)
    result = served.client.get(served.url(f"/v1/jobs/{job['id']}/result")).json()
    assert result == served.client.get(served.url(f"/v1/verdicts/{job['verdict_id']}")).json()
    assert (result["input"]["kind"], result["id"]) == ("video", job["verdict_id"])
    until(lambda: served.kept(job["id"]) == [])


def test_a_file_of_records_comes_to_a_file_of_results(served: Served) -> None:
    job = served.submit("toy-record", ndjson(3000), **{"Content-Type": "application/x-ndjson"})
    ended = served.ended(job["id"])
    assert (ended["state"], ended["rows"], ended["verdict_id"]) == ("done", 3000, None)
    answer = served.client.get(served.url(f"/v1/jobs/{job['id']}/result"))
    table = pq.read_table(io.BytesIO(answer.content))
    assert table.num_rows == 3000
    until(lambda: served.kept(job["id"]) == ["result"])
    assert (served.home / "objects").stat().st_mode & 0o077 == 0


def test_a_table_whose_columns_have_no_names_in_utf8_fails(served: Served) -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"qqqqqq": [1.0]}), out, store_schema=False)
    content = out.getvalue().replace(b"qqqqqq", b"qq\x9bqqq")
    job = served.submit("toy-record", content, **{"Content-Type": "application/vnd.apache.parquet"})
    ended = served.ended(job["id"])
    assert (ended["state"], ended["error"]["code"]) == ("failed", "unreadable_input")


def test_rows_that_cannot_be_judged_are_counted(served: Served) -> None:
    content = ndjson(3) + b'{"a": "x", "b": 1, "c": 1}\nno json\n'
    job = served.submit("toy-record", content, **{"Content-Type": "application/x-ndjson"})
    ended = served.ended(job["id"])
    assert (ended["state"], ended["rows"], ended["not_judged"]) == ("done", 5, 2)


def test_what_cannot_be_judged_ends_as_failed_and_says_why(served: Served) -> None:
    job = served.submit("toy-image", b"no picture at all")
    ended = served.ended(job["id"])
    assert (ended["state"], ended["error"]["code"]) == ("failed", "unsupported_input")
    answer = served.client.get(served.url(f"/v1/jobs/{job['id']}/result"))
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["state"]) == (409, "no_result", "failed")


def test_events_tell_of_every_change_to_the_end(served: Served) -> None:
    job = served.submit("toy-image", jpeg())
    with served.client.stream("GET", served.url(f"/v1/jobs/{job['id']}/events")) as events:
        assert events.headers["Content-Type"].startswith("text/event-stream")
        told = [line.removeprefix("data: ") for line in events.iter_lines() if line.startswith("data: ")]
    states = [json.loads(job)["state"] for job in told]
    assert states[-1] == "done"
    assert sorted(states, key=["waiting", "running", "done"].index) == states


def test_a_webhook_is_told_signed_and_again_when_it_failed(served: Served, hook: Hook) -> None:
    job = served.submit("toy-image", jpeg(), f"?webhook={hook.url}")
    until(lambda: len(hook.calls) == 2)
    secret = (served.home / "keys" / "webhook.secret").read_text().strip()
    for body, headers in hook.calls:
        assert is_signed(secret, body, headers["Discern-Signature"], int(time.time()))
        assert not is_signed(secret, body + b" ", headers["Discern-Signature"], int(time.time()))
        assert not is_signed(secret, body, headers["Discern-Signature"], int(time.time()) + 3600)
        assert headers["Discern-Delivery"] == job["id"]
    told = json.loads(hook.calls[1][0])
    assert (told["job"]["state"], told["verdict"]["id"]) == ("done", job["verdict_id"])
    until(lambda: len(served.job(job["id"])["deliveries"]) == 2)
    assert [delivery["status"] for delivery in served.job(job["id"])["deliveries"]] == [500, 200]
    assert (served.home / "keys" / "webhook.secret").stat().st_mode & 0o077 == 0


def test_a_webhook_that_fails_holds_up_neither_jobs_nor_the_stop_and_goes_on_after_it(alone: Served) -> None:
    deaf = Hook(*[500] * 50)
    # So few that its host is not left alone, which would have some wait for longer than others.
    told = [alone.submit("toy-image", jpeg(), f"?webhook={deaf.url}")["id"] for _ in range(2)]
    assert alone.ended(alone.submit("toy-image", clip())["id"])["state"] == "done"
    until(lambda: all(len(alone.job(job_id)["deliveries"]) == 2 for job_id in told))
    started = time.monotonic()
    alone.process.terminate()
    assert alone.process.wait(40) == 0
    assert time.monotonic() - started < 15
    calls = len(deaf.calls)
    alone.start()
    until(lambda: all(len(alone.job(job_id)["deliveries"]) == 3 for job_id in told))
    for job_id in told:
        second, third = (datetime.fromisoformat(one["at"]) for one in alone.job(job_id)["deliveries"][1:])
        assert third - second > timedelta(seconds=3.5)  # the pause after the second try, not after the first
    assert len(deaf.calls) == calls + 2
    listed = alone.client.get(alone.url("/v1/jobs")).json()["jobs"]
    assert {job["id"]: len(job["deliveries"]) for job in listed if job["webhook"]} == dict.fromkeys(told, 3)
    deaf.close()


def test_a_webhook_inside_is_refused_at_once_or_when_it_is_called(alone: Served, hook: Hook) -> None:
    alone.process.terminate()
    alone.process.wait(40)
    alone.environment = alone.environment | {"DISCERN_WEBHOOK_ALLOW": ""}
    alone.start()
    job = alone.submit("toy-image", jpeg(), f"?webhook={hook.url.replace('127.0.0.1', 'localhost')}")
    until(lambda: bool(alone.job(job["id"])["deliveries"]))
    (delivery,) = alone.job(job["id"])["deliveries"]
    assert "not a public address" in delivery["error"]
    assert "DISCERN_WEBHOOK_ALLOW" in delivery["error"]
    assert hook.calls == []
    for address in (hook.url, "http://[::ffff:10.0.0.1]/", "file:///etc/passwd"):
        answer = alone.client.post(alone.url(f"/v1/detectors/toy-image/jobs?webhook={address}"), content=b"x")
        assert answer.status_code == 400, address


@pytest.mark.parametrize(
    ("name", "content", "headers", "status", "code"),
    [
        ("unknown", b"x", {}, 404, "unknown_detector"),
        ("toy-image", b"", {}, 400, "empty_input"),
        ("toy-image", ndjson(1), {"Content-Type": "application/x-ndjson"}, 415, "unsupported_input"),
        ("toy-record", ndjson(2), {}, 415, "unsupported_input"),
        ("toy-record", b"a,b,c\n1,2,3\n", {}, 415, "unsupported_input"),
        ("toy-record", b"a,b,c\n" + b"1,2,3\n" * 200_000, {}, 415, "unsupported_input"),
        ("toy-image?webhok=https://example.org", b"x", {}, 400, "malformed_request"),
        ("toy-image", b"x", {"Content-Type": "multipart/form-data; boundary=x"}, 415, "unsupported_input"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_at_once(
    served: Served, name: str, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    name, _, query = name.partition("?")
    answer = served.client.post(served.url(f"/v1/detectors/{name}/jobs?{query}"), content=content, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_jobs_are_listed_and_strangers_see_none(served: Served) -> None:
    jobs = [served.submit("toy-record", b'{"a":1,"b":1,"c":1}')["id"] for _ in range(3)]
    page = served.client.get(served.url("/v1/jobs?limit=2")).json()
    assert [job["id"] for job in page["jobs"]] == jobs[:0:-1]
    following = served.client.get(served.url(f"/v1/jobs?limit=1&after={page['next']}")).json()
    assert following["jobs"][0]["id"] == jobs[0]
    assert httpx2.get(served.url("/v1/jobs"), timeout=30).status_code == 401
    unknown = served.client.get(served.url("/v1/jobs/01900000-0000-7000-8000-000000000000"))
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_job")


def test_a_job_that_waits_is_cancelled_and_never_judged(alone: Served) -> None:
    os.kill(alone.process.pid, signal.SIGTERM)
    alone.process.wait(40)
    alone.environment = alone.environment | {"DISCERN_JOBS_AT_A_TIME": "1"}
    alone.start()
    big = alone.submit("toy-record", ndjson(1_500_000), **{"Content-Type": "application/x-ndjson"})
    small = alone.submit("toy-image", jpeg())
    answer = alone.client.post(alone.url(f"/v1/jobs/{small['id']}/cancel")).json()
    assert answer["state"] == "cancelled"
    until(lambda: alone.job(big["id"])["rows"] > 0)
    alone.client.post(alone.url(f"/v1/jobs/{big['id']}/cancel"))
    assert alone.ended(big["id"])["state"] == "cancelled"
    until(lambda: alone.kept(big["id"]) == [])
    assert alone.client.get(alone.url(f"/v1/verdicts/{small['verdict_id']}")).status_code == 404
    assert alone.client.post(alone.url(f"/v1/jobs/{big['id']}/cancel")).json()["state"] == "cancelled"


def test_a_job_whose_file_vanished_fails(alone: Served) -> None:
    alone.process.terminate()
    alone.process.wait(40)
    services = build_services(load_settings({"DISCERN_HOME": str(alone.home)}))
    services.open()
    job = _waiting("toy-image", "input")
    services.job_store.add(job)
    services.close()
    alone.start()
    ended = alone.ended(job.id)
    assert (ended["state"], ended["error"]["code"]) == ("failed", "unreadable_input")


def _waiting(detector: str, kind: Any) -> Any:
    from discern.core.clock import utc_now
    from discern.core.ids import uuid7
    from discern.detection.jobs.types import Job

    return Job(
        id=str(uuid7()),
        workspace="default",
        principal="key:1",
        kind=kind,
        detector=detector,
        version="1.0.0",
        state="waiting",
        progress=0.0,
        rows=0,
        bytes=1,
        created_at=utc_now(),
        verdict_id=str(uuid7()),
    )


@pytest.mark.timeout(400)
def test_every_job_ends_once_though_the_server_is_killed_again_and_again(alone: Served) -> None:
    jobs = [alone.submit("toy-image", clip())["id"] for _ in range(10)]
    table = alone.submit("toy-record", ndjson(400_000), **{"Content-Type": "application/x-ndjson"})
    for pause in (0.3, 1.0, 1.7):
        time.sleep(pause)
        alone.process.kill()
        alone.process.wait()
        alone.start()
    for job_id in jobs:
        ended = alone.ended(job_id, 180)
        assert ended["state"] == "done"
        verdict = alone.client.get(alone.url(f"/v1/jobs/{job_id}/result")).json()
        assert verdict["id"] == ended["verdict_id"]
    assert alone.ended(table["id"], 180)["rows"] == 400_000
    result = alone.client.get(alone.url(f"/v1/jobs/{table['id']}/result")).content
    assert pq.read_table(io.BytesIO(result)).num_rows == 400_000
    page = alone.client.get(alone.url("/v1/verdicts?limit=500")).json()["verdicts"]
    assert len(page) == len({verdict["id"] for verdict in page}) == 10


def test_a_worker_that_dies_for_good_leaves_its_jobs_to_another_on_postgresql(
    tmp_path: Path, furnished_home: Path, postgresql_url: str
) -> None:
    home = Path(shutil.copytree(furnished_home, tmp_path / "home"))
    first = Served(home, DISCERN_DATABASE_URL=postgresql_url)
    # Another server on the same database and folder, which stays.
    second = Served(home, DISCERN_DATABASE_URL=postgresql_url)
    jobs = [first.submit("toy-image", clip())["id"] for _ in range(6)]
    table = first.submit("toy-record", ndjson(600_000), **{"Content-Type": "application/x-ndjson"})
    until(lambda: first.job(table["id"])["state"] == "running")
    first.process.kill()
    first.process.wait()
    first.client.close()
    assert all(second.ended(job_id)["state"] == "done" for job_id in jobs)
    assert second.ended(table["id"])["rows"] == 600_000
    page = second.client.get(second.url("/v1/verdicts?limit=500")).json()["verdicts"]
    assert len(page) == 6
    second.end()
