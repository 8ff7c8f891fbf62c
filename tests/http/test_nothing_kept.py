"""Media that were judged are nowhere afterwards: not in the home folder, not in the temporary one."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import pytest
from starlette.testclient import TestClient

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
