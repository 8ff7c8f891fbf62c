"""Calls go where the operator lets them, and nowhere else."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from discern.core.tracing import NO_PARENT, Trace, done_for
from discern.store.outbound import AddressRefused, Outbound, check_url, networks

PRIVATE = (
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fd00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "64:ff9b:1::a00:1",
    "fec0::1",
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",
    "3fff::1",
    "5f00::1",
    "4000::1",
    "192.88.99.1",
)


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_inside_are_refused_in_every_form(address: str) -> None:
    assert not Outbound().is_allowed(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_called(address: str) -> None:
    assert Outbound().is_allowed(ipaddress.ip_address(address))


def test_the_operator_may_allow_a_network() -> None:
    outbound = Outbound(networks("10.1.0.0/16, ::1"))
    assert outbound.is_allowed(ipaddress.ip_address("10.1.2.3"))
    assert outbound.is_allowed(ipaddress.ip_address("::ffff:10.1.2.3"))
    assert outbound.is_allowed(ipaddress.ip_address("::1"))
    assert not outbound.is_allowed(ipaddress.ip_address("10.2.0.1"))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "https://",
        "//host",
        "host",
        "https://user:word@host/",
        "https://ho st/",
        "http://host:99999/",
        "http://[::1/",
        "http://host/\r\nX: y",
    ],
)
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused):
        check_url(url)


class _Handler(BaseHTTPRequestHandler):
    seen: list[tuple[str, bytes, dict[str, str]]] = []  # noqa: RUF012 - of one test

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, body, dict(self.headers)))
        self.send_response(302 if self.path == "/elsewhere" else 204)
        self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    _Handler.seen.clear()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_call_arrives_and_redirects_are_not_followed(port: int) -> None:
    outbound = Outbound(networks("127.0.0.0/8"))
    assert outbound.post(f"http://127.0.0.1:{port}/hook?a=1", b"{}", {"X-One": "1"}) == 204
    assert outbound.post(f"http://127.0.0.1:{port}/elsewhere", b"", {}) == 302
    assert [path for path, _, _ in _Handler.seen] == ["/hook?a=1", "/elsewhere"]
    assert _Handler.seen[0][2]["X-One"] == "1"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
def test_names_and_spellings_of_this_machine_are_refused_before_connecting(port: int, host: str) -> None:
    with pytest.raises((AddressRefused, OSError)) as refusal:
        Outbound().post(f"http://{host}:{port}/", b"", {})
    assert _Handler.seen == []
    assert not isinstance(refusal.value, ConnectionRefusedError)


def test_a_call_made_for_a_traced_request_goes_on_its_trace(port: int) -> None:
    outbound, trace = Outbound(networks("127.0.0.0/8")), Trace.begun(NO_PARENT)
    with done_for(trace):
        outbound.post(f"http://127.0.0.1:{port}/", b"", {})
    outbound.post(f"http://127.0.0.1:{port}/", b"", {})
    assert [headers.get("traceparent") for _, _, headers in _Handler.seen] == [trace.header, None]
    assert [piece.name for piece in trace.pieces] == ["call out"]
