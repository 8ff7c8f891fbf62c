"""`discern up` as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.system


@contextmanager
def server(home: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """A server on a free port: the process, what it announced, and the port."""
    environment = {"DISCERN_HOME": str(home), "DISCERN_PORT": "0", "PATH": os.environ["PATH"]} | settings
    command = [sys.executable, "-m", "discern.cli.main", "up"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        found = re.search(r"http://[^ ]*:(\d+)", lines[0])
        assert found is not None, f"{lines} {process.stderr and process.stderr.read()}"
        yield process, lines[0], int(found[1])
    finally:
        process.kill()
        process.communicate(timeout=30)


def ask(port: int, *pieces: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        for piece in pieces:
            connection.sendall(piece)
        answer = b""
        while received := connection.recv(65_536):
            answer += received
        return answer


def test_the_first_start_shows_a_key_once(home: Path) -> None:
    shown = []
    for _ in range(2):
        with server(home) as (process, _, port):
            while b"200 OK" not in ask(port, b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=30)
            assert process.returncode == 0, err
            shown.append(re.findall(r"dsc_[A-Za-z0-9_-]{43}", out))
    assert [len(set(keys)) for keys in shown] == [1, 0]
    assert "curl -H" in out or "curl" not in out


def test_several_processes_leave_nothing_to_complain_of_when_they_stop(home: Path) -> None:
    with server(home, DISCERN_WORKERS="2", DISCERN_AUDIT_ANCHOR=str(home / "anchors.jsonl")) as (process, _, port):
        while b"200 OK" not in ask(port, b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert not re.search(r'"level": *"(warning|error)"', err), err
    assert "default" in (home / "anchors.jsonl").read_text()


def test_answers_do_not_wait_for_the_client_to_acknowledge_headers(home: Path) -> None:
    with server(home) as (_, _, port), socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        ask(port, b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        # Looked at from outside: the socket the server answers on belongs to another process.
        taken = []
        for _ in range(21):
            started = time.perf_counter()
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while b'"alive"' not in answer:
                answer += connection.recv(65_536)
            taken.append(time.perf_counter() - started)
        # A delayed acknowledgement is 40 ms or more, every time; anything the machine does is not.
        assert min(taken) < 0.03


def test_a_port_in_use_is_said_with_what_to_do(home: Path) -> None:
    with server(home) as (_, _, port):
        ended = subprocess.run(
            [sys.executable, "-m", "discern.cli.main", "up"],
            env={"DISCERN_HOME": str(home), "DISCERN_PORT": str(port), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 1
    assert "Address already in use" in ended.stderr
    assert "DISCERN_PORT" in ended.stderr


def test_slow_senders_are_given_up_while_others_are_answered(home: Path) -> None:
    with server(home, DISCERN_BODY_SECONDS="1") as (process, _, port):
        assert process.stdout is not None
        secret = ""
        while not secret:
            found = re.search(r"dsc_\S{43}", process.stdout.readline())
            secret = found[0] if found else ""
        head = (
            "POST /v1/detectors/toy-image/verdicts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Authorization: Bearer {secret}\r\nContent-Length: 300000\r\n\r\n"
        ).encode()
        slow = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(12)]
        for connection in slow:
            connection.sendall(head + b"x")
        health = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert b"alive" in ask(port, health)
        for connection in slow:
            assert b"408 " in connection.recv(65_536)
            connection.close()


def test_what_is_wrong_with_a_provider_is_said_before_anybody_is_told_that_we_listen(home: Path) -> None:
    (home / "sign-in.toml").write_text('[saml.x]\nentity_id = "e"\nsign_on_url = "https://a"\ncertificate_file = "x"')
    environment = {"DISCERN_HOME": str(home), "DISCERN_PORT": "0", "PATH": os.environ["PATH"]}
    environment |= {"DISCERN_WORKERS": "2", "DISCERN_PUBLIC_URL": "https://discern.example.org"}
    command = [sys.executable, "-m", "discern.cli.main", "up"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "cannot be read" in ended.stderr


def test_the_start_says_that_no_subject_can_be_named(home: Path, postgresql_url: str) -> None:
    with server(home, DISCERN_DATABASE_URL=postgresql_url) as (process, _, port):
        while b"200 OK" not in ask(port, b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert "Set DISCERN_SUBJECT_KEYS_URL" in err
