"""A record that comes whole is answered from the connection itself, exactly as the framework would."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.http.test_connections import everything, opened
from tests.http.test_streams import Served
from tests.inputs.media import clip, grey_frames

pytestmark = pytest.mark.system

PATH = "/v1/detectors/toy-record/verdicts"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, furnished_home: Path) -> Iterator[Served]:
    with Served(Path(shutil.copytree(furnished_home, tmp_path_factory.mktemp("direct") / "home"))) as served:
        # The first request loads the detector and has the key looked up; what follows can be answered at once.
        ask(served, record(-1))
        yield served


def record(number: float) -> bytes:
    return json.dumps({"a": number, "b": 0, "c": 0}).encode()


def ask(served: Served, body: bytes, **headers: str) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {served.secret}"} | headers
    return httpx2.post(f"http://127.0.0.1:{served.port}{PATH}", content=body, headers=headers, timeout=30)


def request(served: Served, body: bytes, *more: str, path: str = PATH) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {served.secret}", *more]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def answers(connection: socket.socket, count: int) -> list[tuple[int, dict[str, str], Any]]:
    """Read `count` answers off a connection: status, headers and document."""
    received = b""
    found: list[tuple[int, dict[str, str], Any]] = []
    while len(found) < count:
        head, separator, rest = received.partition(b"\r\n\r\n")
        if separator:
            lines = head.decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
            length = int(headers["content-length"])
            if len(rest) >= length:
                found.append((int(lines[0].split()[1]), headers, json.loads(rest[:length])))
                received = rest[length:]
                continue
        part = connection.recv(65536)
        assert part, "the connection ended"
        received += part
    return found


def test_the_answer_is_the_framework_s_to_the_last_member(served: Served) -> None:
    with opened(served.port) as connection:
        # What was known of keys and consent a moment ago is known without asking, but each has its own moment.
        for value in range(2, 30):
            connection.sendall(request(served, record(value)))
            ((status, headers, direct),) = answers(connection, 1)
            if "x-request-id" not in headers:
                break
        # An encoded letter in the path is not for the direct way.
        connection.sendall(request(served, record(value), path=PATH.replace("toy", "to%79")))
        ((other_status, other_headers, framework),) = answers(connection, 1)
    assert (status, other_status) == (200, 200)
    assert set(headers) == {"date", "content-type", "content-length", "x-content-type-options"}
    assert set(headers) < set(other_headers)  # the edge has added what it adds
    own = {"id", "created_at", "milliseconds", "cached", "stages"}
    assert {key: value for key, value in direct.items() if key not in own} == {
        key: value for key, value in framework.items() if key not in own
    }
    assert (direct["cached"], framework["cached"]) == (False, True)
    for verdict in (direct, framework):
        assert served.get(f"/v1/verdicts/{verdict['id']}") == verdict


def test_requests_that_follow_each_other_without_waiting_are_answered_in_order(served: Served) -> None:
    with opened(served.port) as connection:
        connection.sendall(b"".join(request(served, record(number / 10)) for number in range(20)))
        scores = [document["score"] for _, _, document in answers(connection, 20)]
    assert scores == sorted(scores)
    assert len(set(scores)) == 20


@pytest.mark.parametrize("cut", [10, 60, 150, -20, -1])
def test_a_request_that_comes_in_two_parts_is_answered_too(served: Served, cut: int) -> None:
    whole = request(served, record(5))
    with opened(served.port) as connection:
        connection.sendall(whole[:cut])
        time.sleep(0.05)
        connection.sendall(whole[cut:])
        ((status, _, document),) = answers(connection, 1)
    assert (status, document["input"]["kind"]) == (200, "record")


def test_a_part_of_the_next_request_may_come_along(served: Served) -> None:
    both = request(served, record(6)) + request(served, record(7))
    with opened(served.port) as connection:
        connection.sendall(both[:-30])
        time.sleep(0.05)
        connection.sendall(both[-30:])
        first, second = (document["score"] for _, _, document in answers(connection, 2))
    assert first < second


def test_the_connection_ends_where_the_client_asks_for_it(served: Served) -> None:
    with opened(served.port) as connection:
        connection.sendall(request(served, record(1), "Connection: close"))
        answer = everything(connection)
    assert b"connection: close" in answer
    assert answer.endswith(b"}")


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"no json", (), 400, "malformed_request"),
        (b"{}", (), 422, "invalid_record"),
        (b"", (), 400, "empty_input"),
    ],
)
def test_what_is_wrong_is_said_as_ever(
    served: Served, body: bytes, headers: tuple[str, ...], status: int, code: str
) -> None:
    with opened(served.port) as connection:
        connection.sendall(request(served, body, *headers))
        ((found, _, document),) = answers(connection, 1)
    assert (found, document["code"]) == (status, code)


def test_a_key_that_is_not_known_is_refused(served: Served) -> None:
    with opened(served.port) as connection:
        connection.sendall(request(served, record(1)).replace(served.secret.encode(), b"dsc_" + b"x" * 43))
        ((status, _, document),) = answers(connection, 1)
    assert (status, document["code"]) == (401, "unauthenticated")


def test_a_client_that_goes_before_its_answer_harms_nobody(served: Served) -> None:
    for number in range(50):
        with opened(served.port) as connection:
            connection.sendall(request(served, record(100 - number)))
    assert ask(served, record(2)).status_code == 200


def test_nobody_gets_another_s_answer(served: Served) -> None:
    wrong: list[int] = []

    def client(start: int) -> None:
        with opened(served.port) as connection:
            for number in range(start, start + 100):
                body = json.dumps({"a": number / 1000, "b": 0, "c": 0}).encode()
                connection.sendall(request(served, body))
                ((_, _, document),) = answers(connection, 1)
                canonical = json.dumps({"a": number / 1000, "b": 0, "c": 0}, separators=(",", ":"))
                if document["input"]["sha256"] != hashlib.sha256(canonical.encode()).hexdigest():
                    wrong.append(number)

    threads = [threading.Thread(target=client, args=[start * 100 + 1]) for start in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_thousand_idle_connections_keep_nobody_out(served: Served) -> None:
    idle = [opened(served.port) for _ in range(1000)]
    try:
        # In time, or there would be no answer: `ask` gives up too.
        assert ask(served, record(4)).status_code == 200
        assert httpx2.get(f"http://127.0.0.1:{served.port}/livez", timeout=30).status_code == 200
    finally:
        for connection in idle:
            connection.close()


def test_nobody_waits_for_the_pictures_of_clients_that_have_gone(served: Served) -> None:
    content = clip(frames=grey_frames(250, 640, 480))
    path = "/v1/detectors/toy-image/verdicts"
    with opened(served.port) as connection:
        connection.sendall(request(served, content, path=path))
        answers(connection, 1)
    before = served.counted("ledger.verdicts")
    for number in range(60):
        with opened(served.port) as connection:
            # Each is another clip, so that none is known.
            connection.sendall(request(served, content + bytes([0, 0, 0, 8]) + b"free" + bytes([number]), path=path))
    assert ask(served, record(8)).status_code == 200
    deadline = time.monotonic() + 20
    while served.counted("batches.given_up") < 20 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert served.counted("batches.given_up") >= 20
    assert served.counted("ledger.verdicts") - before < 41


def test_a_subject_is_heard_of_on_the_direct_way_too(served: Served) -> None:
    with opened(served.port) as connection:
        connection.sendall(request(served, record(8), "Discern-Subject: customer-1"))
        ((status, _, document),) = answers(connection, 1)
        connection.sendall(request(served, record(8), "Discern-Subject: customer-1"))
        ((_, _, again),) = answers(connection, 1)
        connection.sendall(request(served, record(8)).replace(b"Host: x", b"Host: x\r\nDiscern-Subject: \xff\xfe"))
        ((refused, _, problem),) = answers(connection, 1)
    assert (status, again["cached"]) == (200, False)
    assert (refused, problem["code"]) == (400, "malformed_request")
    exported = httpx2.post(
        f"http://127.0.0.1:{served.port}/v1/privacy/export",
        json={"subject": "customer-1"},
        headers={"Authorization": f"Bearer {served.secret}"},
        timeout=30,
    ).json()
    assert [one["id"] for one in exported["verdicts"]] == [document["id"], again["id"]]


def test_consent_is_asked_for_on_the_direct_way_too(served: Served) -> None:
    def ask_for_consent(required: bool) -> None:
        address, headers = f"http://127.0.0.1:{served.port}/v1/privacy", {"Authorization": f"Bearer {served.secret}"}
        assert httpx2.put(address, json={"consent_required": required}, headers=headers, timeout=30).status_code == 200

    with opened(served.port) as connection:
        ask_for_consent(True)
        try:
            connection.sendall(request(served, record(9)))
            ((status, _, problem),) = answers(connection, 1)
        finally:
            ask_for_consent(False)
        connection.sendall(request(served, record(9)))
        ((after, _, _),) = answers(connection, 1)
    assert (status, problem["code"], after) == (403, "consent_missing", 200)
