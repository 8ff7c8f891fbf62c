"""Prometheus and Alertmanager as they are shipped, beside a real server, a mail server and a webhook."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.alerts.parts import Posted, webhook
from tests.alerts.test_channels import Mailbox
from tests.certificates import certificate_of_loopback
from tests.ports import free_port

SHIPPED = Path(__file__).parents[3] / "deploy" / "monitoring"
TOKEN = "a word that only Prometheus knows"
PASSWORD = "pass-word-9"


@dataclass
class Stack:
    """What runs. `prometheus` is its address."""

    prometheus: str
    mail: Mailbox
    posted: Posted

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """Return what an expression gives at this moment, or gave at a time in seconds since 1970."""
        asked = {"query": expression} | ({} if at is None else {"time": repr(at)})
        answer = httpx2.post(f"{self.prometheus}/api/v1/query", data=asked, timeout=30)
        found: dict[str, Any] = answer.json()
        assert found["status"] == "success", f"{expression}: {found.get('error')}"
        data = found["data"]
        return list(data["result"]) if data["resultType"] != "scalar" else [data]

    def value(self, expression: str) -> float | None:
        """Return the one value that an expression gives, None where it gives none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None

    def values(self, expression: str, at: float | None = None) -> dict[frozenset[tuple[str, str]], float]:
        """Return the values that an expression gives, by labels without the metric's name."""
        return {
            frozenset((name, value) for name, value in one["metric"].items() if name != "__name__"): float(
                one["value"][1]
            )
            for one in self.query(expression, at)
        }

    def told(self, status: str) -> list[dict[str, Any]]:
        """Return the alerts that came by the webhook with a status."""
        return [one for body in self.posted.bodies() for one in body["alerts"] if one["status"] == status]


def until(holds: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@contextmanager
def stack_of(folder: Path, server_port: int, shorter: dict[str, str]) -> Iterator[Stack]:
    """Run the shipped files with the addresses of the test, and with what `shorter` says in place of what they say."""
    prometheus, alertmanager = shutil.which("prometheus"), shutil.which("prometheus-alertmanager")
    if prometheus is None or alertmanager is None:
        pytest.skip("Prometheus is not installed: apt-get install prometheus prometheus-alertmanager")
    with ExitStack() as running:
        posted = running.enter_context(webhook())
        certificate_of_loopback(folder)
        box, mail_port = running.enter_context(mail_server(folder))
        own, theirs = free_port(), free_port()
        addresses = {
            "127.0.0.1:8000": f"127.0.0.1:{server_port}",
            "127.0.0.1:9093": f"127.0.0.1:{theirs}",
            "mail.example.org:587": f"127.0.0.1:{mail_port}",
            "https://hooks.example.org/discern": posted.url,
            "/etc/alertmanager/secrets": str(folder / "secrets"),
        }
        rendered(folder, addresses | shorter)
        started(
            running,
            [alertmanager, "--config.file=alertmanager.yaml", "--storage.path=alerts", "--cluster.listen-address="],
            folder,
            theirs,
        )
        command = [prometheus, "--config.file=prometheus.yaml", "--storage.tsdb.path=series", "--log.level=warn"]
        started(running, command, folder, own)
        yield Stack(f"http://127.0.0.1:{own}", box, posted)


def rendered(folder: Path, instead: Mapping[str, str]) -> None:
    """Write the shipped files with other words in some places; each must be there to be replaced."""
    left = set(instead)
    for name in ("prometheus.yaml", "alertmanager.yaml", "discern-rules.yaml", "recording-rules.yaml"):
        text = (SHIPPED / name).read_text()
        left -= {word for word in left if word in text}
        pattern = "|".join(re.escape(word) for word in sorted(instead, key=len, reverse=True))
        (folder / name).write_text(re.sub(pattern, lambda found: instead[found[0]], text))
    assert not left, f"the shipped files do not say {left}"
    (folder / "secrets").mkdir()
    for name, word in (("metrics.token", TOKEN), ("smtp.password", PASSWORD), ("webhook.token", "a word")):
        (folder / "secrets" / name).write_text(word)


@contextmanager
def mail_server(folder: Path) -> Iterator[tuple[Mailbox, int]]:
    """A mail server that wants TLS and the password, as those of the world do."""
    controllers: Any = pytest.importorskip("aiosmtpd.controller", reason="the extra `test` has aiosmtpd")
    from aiosmtpd.smtp import AuthResult

    def signed_in(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> Any:
        return AuthResult(success=data.password == PASSWORD.encode())

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    box, port = Mailbox(), free_port()
    wants: dict[str, Any] = {
        "tls_context": context,
        "require_starttls": True,
        "authenticator": signed_in,
        "auth_required": True,
    }
    wants["auth_exclude_mechanism"] = ["LOGIN"]  # its words for it are not those that Alertmanager waits for
    server = controllers.Controller(box, hostname="127.0.0.1", port=port, **wants)
    server.start()
    try:
        yield box, port
    finally:
        server.stop()


def started(running: ExitStack, command: Sequence[str], folder: Path, port: int) -> None:
    """Start a program that says when it is ready, to be ended with the others."""
    # The mail server's certificate is its own authority.
    environment = {"PATH": os.environ["PATH"], "SSL_CERT_FILE": str(folder / "server.pem")}
    with (folder / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], cwd=folder, env=environment, stdout=log, stderr=log
        )

    def end() -> None:
        process.terminate()
        process.wait(30)

    running.callback(end)

    def ready() -> bool:
        assert process.poll() is None, (folder / f"{port}.log").read_text()
        try:
            return httpx2.get(f"http://127.0.0.1:{port}/-/ready", timeout=5).status_code == 200
        except httpx2.TransportError:
            return False

    until(ready, 60, f"{command[0]} did not become ready")
