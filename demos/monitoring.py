"""Shows how a shift is noticed: `make demo-monitoring`, or `python -m demos.monitoring`.

A server starts in a folder of its own. Payments as `card-fraud` knows them are asked about, then payments in which
every amount is two and a half times as high. Drift, the alert, the notice at a webhook, and the report appear as they
come about. It ends by itself, with 1 when one of them did not appear.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from demos.payments import payments
from discern.app import build_services
from discern.settings import load_settings

DEARER = 2.5
WINDOW_SECONDS = 2
_CALM_WINDOWS = 3
_A_SECOND = 200
_GIVE_UP_SECONDS = 90
_RULES = """
[channels.webhook]
kind = "webhook"
url = "{url}"
allow = "127.0.0.1/32"
"""


class Missing(Exception):
    """Something did not appear."""


class Demo:
    """A server with a key, what came to its webhook, and the words on the screen."""

    def __init__(self, home: Path, port: int, secret: str, notices: list[dict[str, Any]]) -> None:
        self.home = home
        self.notices = notices
        self._url = f"http://127.0.0.1:{port}"
        self._secret = secret
        self._began = time.monotonic()

    def say(self, words: str) -> None:
        """Print a line with the time since the start."""
        print(f"{time.monotonic() - self._began:5.1f} s  {words}", flush=True)

    def read(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """Return what a route answers."""
        return self._request(path, None)

    def ask(self, records: list[dict[str, Any]]) -> dict[str, int]:
        """Ask about records together, and count the decisions."""
        body = "\n".join(json.dumps(record) for record in records).encode()
        answer = self._request("/v1/detectors/card-fraud/verdicts:batch", body)
        counted: dict[str, int] = {}
        for one in answer["answers"]:
            decision = one["verdict"]["decision"] if "verdict" in one else one["error"]["code"]
            counted[decision] = counted.get(decision, 0) + 1
        return counted

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `discern` on the same folder."""
        environment = os.environ | {"DISCERN_HOME": str(self.home), "COLUMNS": "140"}
        command = [sys.executable, "-m", "discern.cli.main", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def until(self, what: str, holds: Callable[[], Any], meanwhile: Callable[[], object] = lambda: None) -> Any:  # noqa: ANN401
        """Return what holds, once it does. Raises Missing."""
        end = time.monotonic() + _GIVE_UP_SECONDS
        while time.monotonic() < end:
            meanwhile()
            found = holds()
            if found:
                return found
            time.sleep(0.5)
        raise Missing(what)

    def _request(self, path: str, body: bytes | None) -> Any:  # noqa: ANN401
        headers = {"Authorization": f"Bearer {self._secret}", "Content-Type": "application/x-ndjson"}
        request = urllib.request.Request(self._url + path, data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())


def show(demo: Demo, window: int, customers: int, output: Path) -> None:
    """Play the payments, and print what comes of them. Raises Missing."""
    calm = payments(customers)
    demo.say(f"{len(calm):,} payments as card-fraud knows them; {_A_SECOND} a second are asked about")
    for start in range(0, _CALM_WINDOWS * window, _A_SECOND):
        play(demo, calm[start : start + _A_SECOND])
    looked = demo.until("windows of drift", lambda: [one for one in _releases(demo) if one["windows"]])
    if alarms := _alarms(demo):
        raise Missing(f"a calm beginning: {', '.join(alarms)} differ already")
    demo.say(f"compared with the bundle's reference, {looked[0]['windows']} x {window:,} verdicts: nothing differs")
    shifted = payments(customers, times_dearer=DEARER, seed=8)
    demo.say(f"from here on every amount is {DEARER:g} times as high")
    rest = iter(range(0, len(shifted), _A_SECOND))

    def go_on() -> None:
        start = next(rest, None)
        if start is not None:
            play(demo, shifted[start : start + _A_SECOND])

    found = demo.until("drift", lambda: _alarms(demo), go_on)
    demo.say(f"DRIFT: {', '.join(found)}")
    alert = demo.until("an alert", lambda: [one for one in _alerts(demo) if one["rule"] == "drift"])[0]
    demo.say(f"ALERT: {alert['severity']}: {alert['summary']}")
    notice = demo.until("a notice", lambda: [one for one in demo.notices if _is_of_drift(one)])[0]
    demo.say(f"NOTICE at the webhook: {len(notice['alerts'])} alerts of {notice['groupLabels']}")
    for one in notice["alerts"][:3]:
        demo.say(f"  {one['status']}: {one['annotations']['summary']}")
    print(demo.command("drift", "--detector", "card-fraud").stdout, end="")
    _report(demo, output)


def play(demo: Demo, records: list[dict[str, Any]]) -> None:
    """Ask about records, and wait for a second: of more than 250 a second drift looks at some."""
    demo.say(f"  {demo.ask(records)}")
    time.sleep(1)


def _report(demo: Demo, output: Path) -> None:
    demo.say("drift, alert and notice appeared")
    output.parent.mkdir(parents=True, exist_ok=True)
    today = datetime.now(UTC).date().isoformat()
    made = demo.command("report", "--period", "day", "--from", today, "-o", str(output))
    if made.returncode or "card-fraud" not in output.read_text(encoding="utf-8"):
        raise Missing(f"a report on card-fraud: {made.stderr.strip()[-500:]}")
    demo.say(f"REPORT: {output}, {output.stat().st_size:,} bytes")


def _releases(demo: Demo) -> list[dict[str, Any]]:
    return [one for one in demo.read("/v1/drift")["releases"] if one["detector"] == "card-fraud"]


def _alarms(demo: Demo) -> list[str]:
    return [one["name"] for release in _releases(demo) for one in release["subjects"] if one.get("alarm")]


def _alerts(demo: Demo) -> list[dict[str, Any]]:
    return [one for one in demo.read("/v1/alerts")["alerts"] if one["state"] == "firing"]


def _is_of_drift(notice: dict[str, Any]) -> bool:
    return any(one["labels"].get("alertname") == "DiscernDrift" for one in notice["alerts"])


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Serve a webhook on the loopback, and give its address and what comes to it."""
    notices: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            notices.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", notices
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def started(window: int) -> Iterator[Demo]:
    """Run a server in a folder of its own, which is deleted in the end."""
    home = Path(tempfile.mkdtemp(prefix="discern-demo-"))
    try:
        with webhook() as (url, notices), socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
            free.close()
            services = build_services(load_settings({"DISCERN_HOME": str(home)}))
            services.open()
            secret = services.keys.issue("default", "demo", role="owner").secret
            services.close()
            (home / "alerts.toml").write_text(_RULES.format(url=url), encoding="utf-8")
            settings = {
                "DISCERN_HOME": str(home),
                "DISCERN_PORT": str(port),
                "DISCERN_LOG_LEVEL": "error",
                "DISCERN_DRIFT_WINDOW_VERDICTS": str(window),
                "DISCERN_DRIFT_WINDOW_SECONDS": str(WINDOW_SECONDS),
            }
            with served(settings) as process:
                demo = Demo(home, port, secret, notices)
                demo.until("the server", lambda: _is_ready(demo, process))
                yield demo
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def served(settings: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run `discern up` while the block runs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DISCERN_")}
    command = [sys.executable, "-m", "discern.cli.main", "up"]
    process = subprocess.Popen(command, env=kept | settings, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()


def _is_ready(demo: Demo, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        raise Missing(f"the server: it ended with {process.returncode}")
    try:
        demo.read("/readyz")
    except (urllib.error.URLError, ConnectionError):
        return False
    return True


def main() -> int:
    """Run it, and return 1 when something did not appear."""
    parser = argparse.ArgumentParser(description="Show how a shift in what is asked is noticed and told.")
    parser.add_argument("--window", type=int, default=1000, help="verdicts that drift looks at together")
    parser.add_argument("--customers", type=int, default=1500, help="customers who pay")
    parser.add_argument("--output", type=Path, default=Path("build/demo-monitoring/report.html"))
    asked = parser.parse_args()
    print(f"Drift looks at {asked.window:,} verdicts of {WINDOW_SECONDS} s at least; by default it is 1,000 and 60 s.")
    try:
        with started(asked.window) as demo:
            show(demo, asked.window, asked.customers, asked.output)
    except Missing as missing:
        print(f"This did not appear in {_GIVE_UP_SECONDS} s: {missing}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
