"""Messages whose end could be read in two ways, and requests that only somebody who pokes about sends."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.http.test_connections import running

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, furnished_home: Path) -> Iterator[int]:
    home = Path(shutil.copytree(furnished_home, tmp_path_factory.mktemp("messages") / "home"))
    with running(home, {}) as port:
        yield port


@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4",
        b"Content-Length: 4\r\nContent-Length: 5",
        b"Content-Length: +4",
        b"Transfer-Encoding: xchunked",
    ],
)
def test_a_message_that_could_end_in_two_places_is_refused(port: int, lengths: bytes) -> None:
    hidden = b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n"
    head = b"POST /v1/detectors/toy-record/verdicts HTTP/1.1\r\nHost: here\r\n" + lengths + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(head + b"0\r\n\r\n" + hidden)
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1  # what was hidden behind it was not asked


def test_folders_are_not_listed_and_requests_are_not_echoed(client: TestClient) -> None:
    for path in ("/docs/files/", "/docs/files", "/docs/files/../", "/v1/"):
        assert client.get(path).status_code == 404, path
    for path in ("/v1/verdicts", "/livez", "/v1/detectors/toy-record/verdicts", "/docs"):
        answer = client.request("TRACE", path, headers={"X-Marked": "one-of-a-kind"})
        assert answer.status_code == 405, path
        assert "one-of-a-kind" not in answer.text
