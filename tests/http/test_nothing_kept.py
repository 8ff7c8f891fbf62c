"""Media that were judged are nowhere afterwards: not in the home folder, not in the temporary one."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import tempfile
import time
import zipfile
from pathlib import Path
from typing import cast

import httpx2
import pytest
from redis import Redis
from starlette.testclient import TestClient

from tests.http.test_streams import Served
from tests.media import clip, picture

pytestmark = pytest.mark.system

MARK = b"an-unlikely-row-of-bytes-7c1d"


def marked_jpeg() -> bytes:
    out = io.BytesIO()
    picture(4, 400, 300).save(out, "JPEG", comment=MARK, quality=95)
    return out.getvalue()


@pytest.mark.parametrize("content", [marked_jpeg(), clip(comment=MARK.decode())], ids=["image", "video"])
@pytest.mark.parametrize("upload", [False, True], ids=["raw", "multipart"])
def test_marker_bytes_reach_no_file(
    client: TestClient,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    upload: bool,
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    url = "/v1/detectors/toy-image/verdicts"
    answer = client.post(url, files={"file": content}) if upload else client.post(url, content=content)
    assert MARK in content
    assert answer.json()["input"]["bytes"] == len(content), answer.text
    client.post("/v1/detectors/toy-image/verdicts", content=content[: len(content) // 2])
    files = [path for folder in (home, scratch) for path in folder.rglob("*") if path.is_file()]
    assert any(path.name.startswith("discern.db") for path in files)
    assert [path for path in files if MARK in path.read_bytes()] == []
    assert list(scratch.iterdir()) == []


def packed(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.jpg", content)
    return out.getvalue()


def through_every_door(served: Served, content: bytes) -> list[str]:
    """Ask about `content` in every way there is; return the ids of the verdicts."""
    base = f"http://127.0.0.1:{served.port}/v1/detectors/toy-image"
    headers = {"Authorization": f"Bearer {served.secret}"}
    ids = []
    with httpx2.Client(headers=headers, timeout=60) as client:
        for subject in ({}, {"Discern-Subject": "customer-1"}):
            ids.append(client.post(f"{base}/verdicts", content=content, headers=subject).json()["id"])
            ids.append(client.post(f"{base}/verdicts", files={"file": content}, headers=subject).json()["id"])
        again = client.post(f"{base}/verdicts", content=content).json()
        assert again["cached"]
        many = client.post(f"{base}/verdicts:batch", files=[("a", content), ("b", content)]).json()
        zipped = client.post(
            f"{base}/verdicts:batch", content=packed(content), headers={"Content-Type": "application/zip"}
        ).json()
        ids += [item["verdict"]["id"] for answer in (many, zipped) for item in answer["answers"]]
        for broken in (content[: len(content) // 2], MARK, MARK * 20_000):  # refused, and said so in the log
            assert client.post(f"{base}/verdicts", content=broken).status_code >= 400
        job = client.post(f"{base}/jobs", content=content).json()
        while served.get(f"/v1/jobs/{job['id']}")["state"] in {"waiting", "running"}:
            time.sleep(0.1)
    with served.stream("toy-image") as stream:
        stream.send(content)
        ids.append(json.loads(stream.recv(timeout=60))["verdict"]["id"])
    return [*ids, job["verdict_id"]]


def test_nothing_of_an_input_is_left_anywhere_whatever_the_door(
    furnished_home: Path, tmp_path: Path, redis_server: tuple[object, str]
) -> None:
    home, scratch, log = tmp_path / "home", tmp_path / "scratch", tmp_path / "log"
    shutil.copytree(furnished_home, home)
    scratch.mkdir()
    environment = {"DISCERN_REDIS_URL": redis_server[1], "DISCERN_CACHE_WAIT_MILLISECONDS": "2000"}
    environment |= {"DISCERN_LOG_LEVEL": "debug", "TMPDIR": str(scratch)}
    with Served(home, log=log, **environment) as served:
        ids = through_every_door(served, marked_jpeg())
        assert len({served.get(f"/v1/verdicts/{one}")["id"] for one in ids}) == len(ids)
        redis = Redis.from_url(redis_server[1])
        cached = b"".join(cast("bytes", redis.get(key)) for key in redis.scan_iter())
        backup = tmp_path / "backup.db"
        with sqlite3.connect(home / "discern.db") as source, sqlite3.connect(backup) as copy:
            source.backup(copy)
    assert b"toy-image" in cached
    assert MARK not in cached
    given = scratch / "given.jpg"
    given.write_bytes(marked_jpeg())
    files = [path for folder in (home, scratch) for path in folder.rglob("*") if path.is_file()]
    assert [path for path in [*files, backup, log] if MARK in path.read_bytes()] == [given]
    assert b"request_refused" in log.read_bytes()
