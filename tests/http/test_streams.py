"""Live streams against a real server, with a real WebSocket client."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from discern.app import build_services
from discern.settings import load_settings
from tests.detectors import models
from tests.homes import take_in
from tests.inputs.media import clip, picture
from tests.ports import free_port, wait_for

pytestmark = pytest.mark.system

LIMITS = {
    "DISCERN_STREAM_IDLE_SECONDS": "2",
    "DISCERN_WRITE_SECONDS": "1",
    "DISCERN_MAX_STREAMS": "40",
    "DISCERN_STREAM_WAITING": "4",
    "DISCERN_LOG_LEVEL": "error",
}
RULE = {"window_seconds": 0.3, "measure": "fraction_above", "from": 0.5, "flag_at": 0.5}


class Served:
    """A server and the way to it."""

    def __init__(self, home: Path, log: Path | None = None, **environment: str) -> None:
        services = build_services(load_settings({"DISCERN_HOME": str(home)}))
        services.open()
        self.secret = services.keys.issue("default", "test", role="owner").secret
        services.close()
        self.port = free_port()
        self.home = home
        settings = LIMITS | {"DISCERN_HOME": str(home), "DISCERN_PORT": str(self.port), "PATH": ""} | environment
        command = [sys.executable, "-m", "discern.cli.main", "up"]
        with log.open("wb") if log is not None else nullcontext() as said:
            self.process = subprocess.Popen(command, env=settings, stdout=said, stderr=said)
        wait_for(self.port, self.process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        ended = self.process.wait(60)
        assert error is not None or ended == 0

    def stream(self, name: str, **arguments: Any) -> ClientConnection:
        headers = {"Authorization": f"Bearer {self.secret}"}
        address = f"ws://127.0.0.1:{self.port}/v1/detectors/{name}/stream"
        return connect(address, **({"additional_headers": headers} | arguments))

    def client(self) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {self.secret}"}
        return httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=30)

    def get(self, path: str) -> Any:
        with self.client() as client:
            return client.get(path).json()

    def counted(self, name: str) -> int:
        return int(self.get("/v1/statistics")["counts"].get(name, 0))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, furnished_home: Path) -> Path:
    home = Path(shutil.copytree(furnished_home, tmp_path_factory.mktemp("streams") / "home"))
    take_in(home, models.record_manifest(name="toy-stream", stream=RULE), models.RECORD_FILES)
    variant = {"name": "turned", "models": {"only": "turned/only.onnx"}, "evidence": {"margin": 0.01}}
    turned = models.record_manifest(name="toy-turned", stream=RULE, variants=[variant], serves="turned")
    take_in(home, turned, {**models.RECORD_FILES, "turned/only.onnx": models.record_model(weights=(-1.0, 2.0, -0.5))})
    return home


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[Served]:
    with Served(home) as served:
        yield served


def jpeg(side: int = 40) -> bytes:
    out = io.BytesIO()
    picture(side, side).save(out, "JPEG")
    return out.getvalue()


def record(number: float) -> str:
    return json.dumps({"a": number / 10_000, "b": 0.5, "c": -1.0})


def received(stream: ClientConnection, most: float = 10) -> dict[str, Any]:
    message = json.loads(stream.recv(timeout=most))
    assert isinstance(message, dict)
    return message


def until_it_ends(stream: ClientConnection, messages: Iterable[str] = (), pause: float = 0) -> int:
    """Send messages and take answers until the server ends the stream; return how many verdicts came."""
    verdicts = 0
    try:
        for message in messages:
            stream.send(message)
            verdicts += received(stream)["type"] == "verdict"
            time.sleep(pause)
        while True:
            verdicts += received(stream)["type"] == "verdict"
    except ConnectionClosed:
        return verdicts


def test_every_message_gets_its_own_verdict_in_order_and_on_the_ledger(served: Served) -> None:
    with served.stream("toy-record") as stream:
        for number in range(200):
            stream.send(record(number))
        answers = [received(stream) for _ in range(200)]
    assert [answer["sequence"] for answer in answers] == list(range(1, 201))
    assert {answer["type"] for answer in answers} == {"verdict"}
    scores = [answer["verdict"]["score"] for answer in answers]
    assert scores == sorted(scores)
    assert len(set(scores)) == 200
    for answer in answers[::50]:
        assert served.get(f"/v1/verdicts/{answer['verdict']['id']}") == answer["verdict"]


def test_nobody_gets_another_s_verdict(served: Served) -> None:
    expected = {number: score(number) for number in range(0, 10_000, 500)}

    def client(number: int) -> None:
        with served.stream("toy-record") as stream:
            for turn in range(20):
                stream.send(record(number))
                answer = received(stream)
                assert answer["sequence"] == turn + 1
                assert answer["verdict"]["score"] == pytest.approx(expected[number], abs=1e-6)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(client, expected))


def score(number: int) -> float:
    # The toy's weights, bias and temperature.
    return 1 / (1 + math.exp(-(number / 10_000 * 1.0 - 2.0 * 0.5 + 0.5 * -1.0) / 1.5))


def test_what_cannot_be_judged_is_an_error_of_its_own_message(served: Served) -> None:
    with served.stream("toy-record") as stream:
        for message in ("no json", "{}", b"\xff\xfe", record(1)):
            stream.send(message)
        answers = [received(stream) for _ in range(4)]
    assert [answer["type"] for answer in answers] == ["error", "error", "error", "verdict"]
    assert [answer["error"]["code"] for answer in answers[:3]] == [
        "malformed_request",
        "invalid_record",
        "malformed_request",
    ]
    with served.stream("toy-image") as stream:
        stream.send("a text where a frame is due")
        stream.send(b"no picture")
        stream.send(clip())
        stream.send(jpeg())
        answers = [received(stream) for _ in range(4)]
    assert [answer.get("error", {}).get("code") for answer in answers] == [
        "unsupported_input",
        "unsupported_input",
        "unsupported_input",
        None,
    ]
    assert "binary" in answers[0]["error"]["mend"]


def test_frames_beyond_what_waits_are_dropped_oldest_first_and_told(served: Served) -> None:
    before = served.counted("streams.dropped")
    picture = jpeg(800)
    with served.stream("toy-image") as stream:
        for _ in range(200):
            stream.send(picture)
        verdicts: list[int] = []
        dropped = 0
        while len(verdicts) + dropped < 200:
            message = received(stream)
            if message["type"] == "slow_down":
                dropped += message["dropped"]
            else:
                verdicts.append(message["sequence"])
    assert verdicts == sorted(verdicts)
    assert verdicts[-1] == 200
    assert dropped == 200 - len(verdicts) == served.counted("streams.dropped") - before > 0


def test_a_window_names_the_variant_whose_verdicts_it_is_of(served: Served) -> None:
    window: dict[str, Any] | None = None
    with served.stream("toy-turned") as stream:
        while window is None:
            stream.send(json.dumps({"a": 5.0, "b": 0, "c": 0}))
            while (message := received(stream))["type"] != "verdict":
                window = message
            assert message["verdict"]["variant"] == "turned"
            time.sleep(0.02)
    assert window["type"] == "window"
    assert (window["verdict"]["decision"], window["verdict"]["variant"]) == ("clear", "turned")
    assert served.get(f"/v1/verdicts/{window['verdict']['id']}") == window["verdict"]


def test_windows_are_verdicts_on_the_ledger(served: Served) -> None:
    windows: list[dict[str, Any]] = []
    with served.stream("toy-stream") as stream:
        sent = 0
        # The first window is of high scores, what follows of low ones; what closes a window is in the next.
        while len(windows) < 2 or (windows[-1]["verdict"]["decision"] != "clear" and len(windows) < 8):
            stream.send(json.dumps({"a": -5.0 if windows else 5.0, "b": 0, "c": 0}))
            sent += 1
            while True:
                message = received(stream)
                if message["type"] == "verdict" and message["sequence"] == sent:
                    break
                windows.append(message)
            time.sleep(0.02)
    first = windows[0]["verdict"]
    assert (first["decision"], first["score"], first["decided_by"]) == ("flag", 1.0, "window")
    assert (first["input"]["kind"], first["input"]["seconds"]) == ("stream", 0.3)
    assert first["input"]["frames"] >= 2
    assert windows[-1]["verdict"]["decision"] == "clear"
    assert served.get(f"/v1/verdicts/{first['id']}") == first


def test_a_stream_needs_a_key_and_a_detector(served: Served) -> None:
    wrong: list[dict[str, str]] = [{}, {"Authorization": "Bearer dsc_wrong"}]
    for headers in wrong:
        with pytest.raises(InvalidStatus) as refusal, served.stream("toy-record", additional_headers=headers):
            pass
        assert refusal.value.response.status_code == 401
        assert json.loads(refusal.value.response.body)["code"] == "unauthenticated"
    with pytest.raises(InvalidStatus) as refusal, served.stream("unknown"):
        pass
    assert refusal.value.response.status_code == 404
    assert json.loads(refusal.value.response.body)["code"] == "unknown_detector"
    address, key = f"ws://127.0.0.1:{served.port}/elsewhere", {"Authorization": f"Bearer {served.secret}"}
    with pytest.raises(InvalidStatus) as refusal, connect(address, additional_headers=key):
        pass
    assert json.loads(refusal.value.response.body)["code"] == "no_such_stream"


def test_a_browser_may_send_its_key_as_a_subprotocol(served: Served) -> None:
    protocols = ["discern.v1", f"bearer.{served.secret}"]
    with served.stream("toy-record", additional_headers={}, subprotocols=protocols) as stream:
        assert stream.subprotocol == "discern.v1"
        stream.send(record(1))
        assert received(stream)["type"] == "verdict"


def test_a_silent_client_is_let_go(served: Served) -> None:
    with served.stream("toy-record") as stream:
        with pytest.raises(ConnectionClosed):
            stream.recv(timeout=8)
        assert stream.close_code == 1001
        assert "stream_idle_seconds" in (stream.close_reason or "")


def test_more_streams_than_allowed_are_refused_with_the_limit(served: Served) -> None:
    already = served.counted("streams.opened") - served.counted("streams.closed")
    with ExitStack() as streams:
        for _ in range(40 - already):
            streams.enter_context(served.stream("toy-record"))
        with pytest.raises(InvalidStatus) as refusal, served.stream("toy-record"):
            pass
    assert refusal.value.response.status_code == 503
    assert refusal.value.response.headers["Retry-After"] == "5"
    assert json.loads(refusal.value.response.body)["limit"] == "max_streams"


def test_a_client_that_never_reads_loses_its_stream_and_costs_bounded_memory(served: Served) -> None:
    request = (
        "GET /v1/detectors/toy-record/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {served.secret}\r\n\r\n"
    )
    message = record(1).encode()
    frame = struct.pack("!BB4s", 0x81, 0x80 | len(message), b"\0" * 4) + message
    cut_off, resident = served.counted("limits.write_seconds"), resident_bytes(served.process.pid)
    with socket.create_connection(("127.0.0.1", served.port)) as raw:
        raw.sendall(request.encode())
        assert b"101" in raw.recv(4096)
        raw.settimeout(60)
        with pytest.raises(ConnectionError):
            # Their answers, were they all made and kept, would take ten times as much as is allowed below.
            raw.sendall(frame * 2_000_000)
    assert served.counted("limits.write_seconds") == cut_off + 1
    assert resident_bytes(served.process.pid) - resident < 150_000_000


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_revoked_key_ends_the_stream(home: Path, served: Served) -> None:
    services = build_services(load_settings({"DISCERN_HOME": str(home)}))
    services.open()
    issued = services.keys.issue("default", "short", role="owner")
    with served.stream("toy-record", additional_headers={"Authorization": f"Bearer {issued.secret}"}) as stream:
        stream.send(record(1))
        assert received(stream)["type"] == "verdict"
        services.keys.revoke("default", issued.key.id)
        until_it_ends(stream, map(record, range(100)), 0.1)
        assert stream.close_code == 1008
    services.close()


def test_a_stop_answers_what_was_sent_and_says_so(furnished_home: Path, tmp_path: Path) -> None:
    served = Served(Path(shutil.copytree(furnished_home, tmp_path / "home")))
    with served.stream("toy-record") as stream:
        for number in range(50):
            stream.send(record(number))
        os.kill(served.process.pid, 15)
        answered = until_it_ends(stream)
        assert stream.close_code == 1012
    assert served.process.wait(30) == 0
    services = build_services(load_settings({"DISCERN_HOME": str(served.home)}))
    services.open()
    with services.database.read() as connection:
        on_ledger = connection.exec_driver_sql("SELECT count(*) FROM verdicts").scalar()
    services.close()
    assert on_ledger == answered


def test_a_message_that_is_too_long_ends_the_stream_with_1009(served: Served) -> None:
    with served.stream("toy-record") as stream:
        until_it_ends(stream, ["x" * 30_000_000])
        # What is left of the message may meet a closed door before the reason is read.
        assert stream.close_code in {1006, 1009}
