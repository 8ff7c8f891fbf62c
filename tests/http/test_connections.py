"""Slow and greedy clients, against a real server with short deadlines."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from discern.app import build_services
from discern.settings import load_settings
from tests.ports import free_port, wait_for

pytestmark = pytest.mark.system

LIMITS = {
    "DISCERN_HEADER_SECONDS": "1",
    "DISCERN_BODY_SECONDS": "1",
    "DISCERN_WRITE_SECONDS": "1",
    "DISCERN_IDLE_SECONDS": "1",
    "DISCERN_HEADER_BYTES": "4096",
    "DISCERN_MAX_CONNECTIONS": "40",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, furnished_home: Path) -> Iterator[tuple[int, str]]:
    """The port and a key of a server with short deadlines."""
    with served(tmp_path_factory.mktemp("connections") / "home", furnished_home, LIMITS) as found:
        yield found


@contextmanager
def served(home: Path, furnished_home: Path, limits: dict[str, str]) -> Iterator[tuple[int, str]]:
    shutil.copytree(furnished_home, home)
    services = build_services(load_settings({"DISCERN_HOME": str(home)}))
    services.open()
    secret = services.keys.issue("default", "test", role="owner").secret
    services.close()
    with running(home, limits) as port:
        yield port, secret


@contextmanager
def running(home: Path, settings: dict[str, str]) -> Iterator[int]:
    """The port of a server over a home folder, which must end well."""
    port = free_port()
    environment = settings | {"DISCERN_HOME": str(home), "DISCERN_PORT": str(port), "PATH": ""}
    command = [sys.executable, "-m", "discern.cli.main", "up"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(port, process)
    try:
        yield port
    finally:
        process.terminate()
        ended = process.wait(60)
    assert ended == 0


def opened(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.settimeout(10)
    return connection


def everything(connection: socket.socket) -> bytes:
    """Read until the server closes."""
    content = b""
    try:
        while piece := connection.recv(65_536):
            content += piece
    except ConnectionResetError:
        pass
    return content


def problem(answer: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def counted(server: tuple[int, str], name: str) -> int:
    port, secret = server
    answer = httpx2.get(
        f"http://127.0.0.1:{port}/v1/statistics", headers={"Authorization": f"Bearer {secret}"}, timeout=30
    )
    found = answer.raise_for_status().json()["counts"].get(name, 0)
    assert isinstance(found, int)
    return found


def test_a_head_that_comes_too_slowly_is_given_up(server: tuple[int, str]) -> None:
    with opened(server[0]) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: here\r\nX-Slow: ")
        started = time.monotonic()
        status, told = problem(everything(connection))
    assert (status, told["limit"]) == (408, "header_seconds")
    assert time.monotonic() - started < 15
    assert counted(server, "limits.header_seconds") >= 1


def test_a_connection_that_says_nothing_is_closed(server: tuple[int, str]) -> None:
    with opened(server[0]) as connection:
        assert everything(connection) == b""


def test_a_head_that_is_too_long_is_refused_however_it_comes(server: tuple[int, str]) -> None:
    long = b"GET /livez HTTP/1.1\r\nHost: here\r\nX-Long: " + b"a" * 5_000
    for head in (long, long + b"\r\n\r\n"):
        with opened(server[0]) as connection:
            connection.sendall(head)
            status, told = problem(everything(connection))
        assert (status, told["limit"]) == (431, "header_bytes")


def test_a_body_that_comes_too_slowly_or_not_to_its_end_is_given_up(server: tuple[int, str]) -> None:
    port, secret = server
    head = (
        f"POST /v1/detectors/toy-record/verdicts HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {secret}\r\n"
        "Content-Length: 40\r\nConnection: close\r\n\r\n"
    ).encode()
    for start in (b"", b'{"a": 1'):
        with opened(port) as connection:
            connection.sendall(head + start)
            status, told = problem(everything(connection))
        assert (status, told["limit"]) == (408, "body_seconds")
    with opened(port) as connection:
        connection.sendall(head + b'{"a": 1')
        connection.shutdown(socket.SHUT_WR)
        everything(connection)
    assert httpx2.get(f"http://127.0.0.1:{port}/livez", timeout=30).status_code == 200


def test_a_client_that_never_reads_loses_its_connection(server: tuple[int, str]) -> None:
    port, _ = server
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.settimeout(10)
        # Each answer is some hundred kilobytes; none is read.
        request = b"GET /openapi.json HTTP/1.1\r\nHost: here\r\n\r\n"
        for _ in range(200):
            try:
                connection.sendall(request)
            except OSError:
                break
            time.sleep(0.02)
        for _ in range(100):
            if counted(server, "limits.write_seconds"):
                break
            time.sleep(0.1)
    assert counted(server, "limits.write_seconds") >= 1


def test_many_idle_sockets_keep_nobody_out_for_long(server: tuple[int, str]) -> None:
    port, _ = server
    idle = [opened(port) for _ in range(60)]
    answers = [everything(connection) for connection in idle]
    for connection in idle:
        connection.close()
    refused = [problem(answer) for answer in answers if answer]
    assert len(refused) >= 20
    assert all((status, told["limit"]) == (503, "max_connections") for status, told in refused)
    assert httpx2.get(f"http://127.0.0.1:{port}/livez", timeout=30).status_code == 200


def test_an_answered_request_whose_body_never_ends_is_cut_off(server: tuple[int, str]) -> None:
    port, _ = server
    with opened(port) as connection:
        connection.sendall(
            b"POST /v1/detectors/toy-record/verdicts HTTP/1.1\r\nHost: here\r\nContent-Length: 9000000\r\n\r\n"
        )
        assert b" 401 " in connection.recv(65_536)
        started = time.monotonic()
        try:
            while time.monotonic() - started < 15:
                connection.sendall(b"x")
                time.sleep(0.2)
        except OSError:
            pass
        assert 3 < time.monotonic() - started < 12


UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
STREAM = b"GET /v1/detectors/toy-record/stream HTTP/1.1\r\nHost: here\r\n" + UPGRADE + b"AAAAAAAAAAAAAAAAAAAAAA==\r\n"
RECORD = b'{"a": 1, "b": 0.5, "c": -1}'


def post(secret: str, *headers: str, path: str = "/v1/detectors/toy-record/verdicts") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: here", f"Authorization: Bearer {secret}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def test_trailers_without_end_are_cut_off(server: tuple[int, str]) -> None:
    with opened(server[0]) as connection:
        connection.sendall(
            b"POST /v1/detectors/toy-record/verdicts HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
        )
        sent = 0
        try:
            while sent < 50_000_000:
                sent += connection.send(b"x: " + b"y" * 60_000 + b"\r\n")
        except OSError:
            pass
    assert sent < 10_000_000  # what the sockets between hold


def test_a_body_in_chunks_of_one_byte_is_taken(server: tuple[int, str]) -> None:
    port, secret = server
    with opened(port) as connection:
        connection.sendall(post(secret, "Transfer-Encoding: chunked"))
        for byte in RECORD + b" " * 3_000:
            connection.sendall(b"1\r\n%c\r\n" % byte)
        connection.sendall(b"0\r\n\r\n")
        assert b" 200 " in connection.recv(65_536)


def test_a_key_in_a_trailer_is_none(server: tuple[int, str]) -> None:
    port, secret = server
    with opened(port) as connection:  # the key is remembered from here on
        connection.sendall(post(secret, f"Content-Length: {len(RECORD)}", "Connection: close") + RECORD)
        assert b" 200 " in everything(connection)
    with opened(port) as connection:
        head = b"POST /v1/detectors/toy-record/verdicts HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
        trailer = f"Authorization: Bearer {secret}\r\n\r\n".encode()
        connection.sendall(head + b"%x\r\n%b\r\n0\r\n" % (len(RECORD), RECORD) + trailer)
        assert b" 401 " in connection.recv(65_536)


def test_an_empty_line_keeps_no_connection_open(server: tuple[int, str]) -> None:
    with opened(server[0]) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n")
        assert b" 200 " in connection.recv(65_536)
        connection.sendall(b"\r\n")
        assert b" 408 " in everything(connection)


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/detectors/toy-record/stream HTTP/1.1\r\nHost: here\r\n" + UPGRADE + b"x\r\n\r\n",
        STREAM + b"X-Long: " + b"a" * 2_000 + b"\r\n" + b"X-Many: 1\r\n" * 200 + b"\r\n",
    ],
)
def test_what_is_no_handshake_is_answered_and_closed(server: tuple[int, str], head: bytes) -> None:
    with opened(server[0]) as connection:
        connection.sendall(head)
        assert everything(connection).startswith(b"HTTP/1.1 4")


def test_an_upgrade_that_is_not_taken_up_changes_nothing(server: tuple[int, str]) -> None:
    port, secret = server
    hidden = b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n"
    upgrade = ("Connection: Upgrade, HTTP2-Settings, close", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
    for body, status in ((RECORD, b" 200 "), (hidden, b" 400 ")):
        for pause in (0.0, 0.2):
            with opened(port) as connection:
                connection.sendall(post(secret, *upgrade, f"Content-Length: {len(body)}"))
                time.sleep(pause)
                connection.sendall(body)
                answer = everything(connection)
            assert status in answer.split(b"\r\n")[0]
            assert answer.count(b"HTTP/1.1 ") == 1


def test_a_web_socket_gives_its_place_back_and_an_upload_behind_another_request_may_be_slow(
    tmp_path: Path, furnished_home: Path
) -> None:
    limits = {"DISCERN_MAX_CONNECTIONS_PER_ADDRESS": "3", "DISCERN_STREAM_WAITING_BYTES": "1000000"}
    with served(tmp_path / "home", furnished_home, limits) as (port, secret):
        for _ in range(6):
            with opened(port) as connection:
                connection.sendall(STREAM + b"\r\n")
                assert b" 401 " in everything(connection)
        assert httpx2.get(f"http://127.0.0.1:{port}/livez", timeout=30).status_code == 200
        # A message of 8 MB that never ends.
        with opened(port) as connection:
            connection.sendall(STREAM + f"Authorization: Bearer {secret}\r\n\r\n".encode())
            assert b" 101 " in connection.recv(65_536)
            connection.sendall(b"\x82\xff" + (8_000_000).to_bytes(8, "big") + b"0000" + b"z" * 1_200_000)
            assert everything(connection) == b""
        assert counted((port, secret), "limits.stream_waiting_bytes") == 1
        with opened(port) as connection:
            first = b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n"
            connection.sendall(first + post(secret, f"Content-Length: {len(RECORD)}", "Connection: close"))
            time.sleep(7)  # longer than what remains of an answered request is waited for
            connection.sendall(RECORD)
            assert everything(connection).count(b"HTTP/1.1 200") == 2
