"""Channels reach real servers, and tell nobody what is secret about them."""

from __future__ import annotations

import logging
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import pytest

from discern.access.types import LOCAL
from discern.alerts.ports import Sender
from discern.alerts.rules_notices import planned
from discern.alerts.rules_states import begun, ended
from discern.alerts.service import _test_notice
from discern.alerts.service_channels import _addressed, _notify_type, scrubbed, sender_of
from discern.alerts.types import Alert, Channel, Notice, Route
from discern.core.clock import utc_now
from discern.core.ids import uuid7
from discern.store.secret_files import SecretFile
from tests.alerts.parts import START, rule, webhook
from tests.ports import free_port

pytestmark = pytest.mark.system
pytest.importorskip("apprise", reason="apprise is not installed: the extra `server` has it")


def channel_to(url: str, allow: str = "127.0.0.1/32", kind: str = "apprise") -> Sender:
    channel = Channel(name="c", kind=cast("Any", kind), url=url, allow=allow)
    return sender_of(channel, (), SecretFile("the secret of all", Path("none")), "https://discern.example.org")


def notice(*, over: bool = False, severity: str = "critical") -> Notice:
    found: Alert = begun(uuid7(), rule(severity=severity), (("name", "café <b>"),), 11.0, START, workspace=None)
    import msgspec

    found = msgspec.structs.replace(found, state="firing", fired_at=START)
    if over:
        found = msgspec.structs.replace(ended(found, START).alert, levels=1)
    routes = (Route(name="all", channels=("c",)),)
    return planned([found], {}, routes, START, make_id=uuid7, room=lambda _: 10).notices[0].notice


class Mailbox:
    """What a mail server was handed."""

    def __init__(self) -> None:
        self.envelopes: list[tuple[str, list[str], EmailMessage]] = []
        self.answer = "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        message = message_from_bytes(envelope.content, policy=policy.default)
        self.envelopes.append((envelope.mail_from, envelope.rcpt_tos, message))
        return self.answer


@pytest.fixture
def mail() -> Iterator[tuple[Mailbox, int]]:
    """A real mail server on the loopback."""
    controllers: Any = pytest.importorskip("aiosmtpd.controller", reason="the extra `test` has aiosmtpd")
    box = Mailbox()

    port = free_port()
    server = controllers.Controller(box, hostname="127.0.0.1", port=port)
    server.start()
    yield box, port
    server.stop()


def test_an_e_mail_arrives_with_its_title_and_text(mail: tuple[Mailbox, int]) -> None:
    box, port = mail
    url = f"mailto://127.0.0.1:{port}?from=discern@example.org&to=ops@example.org&mode=insecure"
    sent = channel_to(url).send(notice(), "key")
    assert sent.error is None
    sender, receivers, message = box.envelopes[0]
    assert sender == "discern@example.org"
    assert receivers == ["ops@example.org"]
    assert message["Subject"] == "[FIRING:1] critical: café <b> is 11"
    body = message.get_body(("plain",))
    assert body is not None
    assert "It is high." in body.get_content()
    assert "https://discern.example.org" in body.get_content()
    over = channel_to(url).send(notice(over=True), "key")
    assert over.error is None
    assert box.envelopes[1][2]["Subject"].startswith("[RESOLVED]")


def test_a_mail_server_that_refuses_is_a_failure_without_the_password(mail: tuple[Mailbox, int]) -> None:
    box, port = mail
    box.answer = "554 no"
    url = f"mailto://user:pass-word-9@127.0.0.1:{port}?from=a@example.org&to=b@example.org&mode=insecure"
    sent = channel_to(url).send(notice(), "key")
    assert sent.error
    assert not sent.refused
    assert "pass-word-9" not in sent.error
    gone = channel_to("mailto://user:pass-word-9@127.0.0.1:1?from=a@example.org&to=b@example.org&mode=insecure")
    failed = gone.send(notice(), "key")
    assert failed.error == "there was no connection, or it was broken off"


def test_another_webhook_of_apprise_is_told_and_its_status_is_known() -> None:
    with webhook() as posted:
        url = posted.url.replace("http://", "json://")
        assert channel_to(url).send(notice(), "key").error is None
        assert posted.bodies()[0]["title"].startswith("[FIRING:1]")
        assert posted.bodies()[0]["type"] == "failure"
        posted.status = 403
        sent = channel_to(url).send(notice(), "key")
        assert (sent.error, sent.status, sent.refused) == ("it answered 403", 403, False)


def test_hosts_that_are_private_are_refused_unless_the_operator_allows_them() -> None:
    with webhook() as posted:
        for host in ("127.0.0.1", "localhost"):
            url = posted.url.replace("http://127.0.0.1", f"json://{host}")
            sent = channel_to(url, allow="").send(notice(), "key")
            assert sent.refused
            assert "not a public address" in (sent.error or "")
            assert "secret-token-of-the-path" not in (sent.error or "")
        assert posted.requests == []
    refused = channel_to("mailto://mail.example?smtp=127.0.0.1&from=a@b.cd&to=a@b.cd", allow="").send(notice(), "key")
    assert refused.refused


def test_a_redirect_is_not_followed() -> None:
    with webhook() as inner, redirecting(inner.url) as outer:
        sent = channel_to(outer.replace("http://", "json://")).send(notice(), "key")
        assert sent.error == "it answered 302"
        assert inner.requests == []


@contextmanager
def redirecting(to: str) -> Iterator[str]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode())

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/x"
    finally:
        server.shutdown()
        server.server_close()


def test_a_url_that_apprise_does_not_know_is_refused_without_saying_it() -> None:
    for url in ("nothing://tokentoken", "slack://tokentoken", "mailto://"):
        sent = channel_to(url).send(notice(), "key")
        assert sent.refused
        assert sent.error == "its url is none that apprise knows"


def test_pagerduty_is_told_which_incident_and_that_it_is_over() -> None:
    import apprise

    fired, over = notice(), notice(over=True)
    assert fired.group == over.group
    plugins: list[Any] = [
        apprise.Apprise.instantiate(_addressed("pagerduty://integrationkey@apikey", one)) for one in (fired, over)
    ]
    assert plugins[0].dedup == plugins[1].dedup == fired.group
    assert [plugin.action for plugin in plugins] == ["map", "map"]
    assert [_notify_type(one) for one in (fired, over, notice(severity="warning"))] == ["failure", "success", "warning"]
    assert _addressed("pagerduty://k@a?dedup=mine", fired) == "pagerduty://k@a?dedup=mine"


def test_slack_has_no_host_of_the_url_to_check_and_others_have_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    import apprise

    sender: Any = channel_to("slack://x", allow="")
    checked: list[str] = []
    monkeypatch.setattr(sender._out, "check_host", checked.append)
    sender._check(apprise.Apprise.instantiate("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops"))
    assert checked == []
    sender._check(apprise.Apprise.instantiate("json://hooks.example/path"))
    sender._check(apprise.Apprise.instantiate("mailto://a:word@example.org?smtp=10.0.0.1"))
    assert checked == ["hooks.example", "10.0.0.1"]


def test_nothing_secret_is_logged_whatever_the_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="discern")
    with webhook() as posted:
        for status in (204, 500):
            posted.status = status
            channel_to(posted.url.replace("http://", "json://user:pass-word-9@")).send(notice(), "key")
            channel_to(posted.url, kind="webhook").send(notice(), "key")
    assert "secret-token-of-the-path" not in caplog.text
    assert "pass-word-9" not in caplog.text


def test_the_log_has_every_notice_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="discern")
    assert channel_to("", kind="log").send(notice(), "key-1").error is None
    record = next(one for one in caplog.records if one.getMessage() == "alert_notice")
    assert record.levelname == "WARNING"
    assert record.__dict__["key"] == "key-1"


def test_what_is_said_is_scrubbed_of_every_part_of_the_url() -> None:
    url = "https://us%65r:pass-word@host.example/services/T000/long%2Dtoken?key=other-token"
    channel = Channel(name="c", kind="webhook", url=url, secret="signing-word")
    said = scrubbed(f"{url} long-token T000 other-token pass-word signing-word host.example", channel)
    for secret in ("long-token", "T000", "other-token", "pass-word", "signing-word"):
        assert secret not in said
    assert "host.example" in said


def test_a_test_says_that_it_is_one() -> None:
    with webhook() as posted:
        made = _test_notice(utc_now(), "c", LOCAL)
        channel_to(posted.url.replace("http://", "json://")).send(made, "key")
        assert posted.bodies()[0]["title"] == "[TEST] Discern"
