"""How soon somebody is told, and how old what a dashboard shows is, in whole servers with default settings.

`python -m bench.watching` lets a stage fail in a real server, again and again, and takes the time from the first failed
question to the notice at a webhook: by Discern's own alerts, and by Prometheus and Alertmanager with the files in
deploy/monitoring. Then it takes the time from an answer to when Prometheus has counted it.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench.alerts import hook
from bench.baseline import FIELDS
from bench.home import FAILING, RECORD, add_failing, furnish
from bench.scratch import scratch
from bench.servers import ROOT, Ours, Server, free_port

_NOTICE_SECONDS, _AGE_SECONDS, _REFRESH_SECONDS = 15.0, 5.0, 1.0
_TOKEN = "a word that only Prometheus knows"
_SHIPPED = ROOT / "deploy" / "monitoring"
_RULES = """
[channels.hook]
kind = "webhook"
url = "{url}"
allow = "127.0.0.1/32"
"""


@contextmanager
def prometheus_of(folder: Path, port: int, hook_url: str) -> Iterator[Server]:
    """Run Prometheus and Alertmanager with the shipped files over the server at a port; only addresses differ."""
    own, theirs = free_port(), free_port()
    instead = {
        "127.0.0.1:8000": f"127.0.0.1:{port}",
        "127.0.0.1:9093": f"127.0.0.1:{theirs}",
        "https://hooks.example.org/discern": hook_url,
        "/etc/alertmanager/secrets": str(folder / "secrets"),
    }
    (folder / "secrets").mkdir(parents=True)
    for name in ("metrics.token", "smtp.password", "webhook.token"):
        (folder / "secrets" / name).write_text(_TOKEN, encoding="utf-8")
    for name in ("prometheus.yaml", "alertmanager.yaml", "discern-rules.yaml", "recording-rules.yaml"):
        text = (_SHIPPED / name).read_text(encoding="utf-8")
        found = re.sub("|".join(map(re.escape, instead)), lambda one: instead[one[0]], text)
        (folder / name).write_text(found, encoding="utf-8")
    telling = ["prometheus-alertmanager", "--config.file=alertmanager.yaml", "--storage.path=alerts"]
    telling += ["--cluster.listen-address=", f"--web.listen-address=127.0.0.1:{theirs}", "--log.level=error"]
    reading = ["prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=series"]
    reading += [f"--web.listen-address=127.0.0.1:{own}", "--log.level=error"]
    with (
        Server(telling, port=theirs, ready="/-/ready", environment={}, cwd=folder),
        Server(reading, port=own, ready="/-/ready", environment={}, cwd=folder) as server,
    ):
        yield server


def ask(server: Ours, detector: str, first: float) -> None:
    """Ask about a record, whatever the answer is."""
    body = json.dumps(dict.fromkeys(FIELDS, 0.5) | {FIELDS[0]: first}).encode()
    headers = {"Authorization": f"Bearer {server.secret}"}
    request = urllib.request.Request(f"{server.url}/v1/detectors/{detector}/verdicts", data=body, headers=headers)
    try:
        urllib.request.urlopen(request, timeout=20).close()
    except urllib.error.HTTPError as error:
        error.close()


def told_after(home: Path, folder: Path, wait: float) -> tuple[float, float | None]:
    """Return the seconds from the first failure to the notice, of Discern's own alerts and of Prometheus'."""
    own, theirs = threading.Event(), threading.Event()
    with hook(own) as own_url, hook(theirs) as their_url:
        (home / "alerts.toml").write_text(_RULES.format(url=own_url), encoding="utf-8")
        with Ours(home, {"DISCERN_METRICS_TOKEN": _TOKEN}) as server:
            if shutil.which("prometheus") is None:
                return _failing(server, [own], wait)[0], None
            with prometheus_of(folder, server.port, their_url):
                first, second = _failing(server, [own, theirs], wait)
                return first, second


def _failing(server: Ours, told: list[threading.Event], wait: float) -> list[float]:
    time.sleep(wait)
    began, found = time.monotonic(), [float("inf")] * len(told)
    while time.monotonic() < began + 60 and max(found) == float("inf"):
        ask(server, FAILING, -1.0)
        for number, event in enumerate(told):
            if event.wait(0.1) and found[number] == float("inf"):
                found[number] = time.monotonic() - began
    return found


def ages(home: Path, folder: Path, rounds: int) -> list[float]:
    """Return the seconds from answers to when Prometheus had counted them, looked at all the time."""
    found = []
    with (
        Ours(home, {"DISCERN_METRICS_TOKEN": _TOKEN}) as server,
        prometheus_of(folder, server.port, server.url) as there,
    ):
        ask(server, RECORD, 0.0)
        while _counted(there) is None:
            time.sleep(0.2)
        for number in range(rounds):
            before = _counted(there)
            time.sleep(number * 0.37 % 2)  # at any time between two looks
            ask(server, RECORD, (number + 1) / rounds)
            began = time.monotonic()
            while _counted(there) == before and time.monotonic() < began + 30:
                time.sleep(0.05)
            found.append(time.monotonic() - began)
    return found


def _counted(there: Server) -> str | None:
    query = urllib.parse.urlencode({"query": "sum(discern_verdicts_total)"})
    with urllib.request.urlopen(f"{there.url}/api/v1/query?{query}", timeout=20) as answer:
        result = json.load(answer)["data"]["result"]
    return str(result[0]["value"][1]) if result else None


def line(what: str, times: list[float], limit: float) -> str:
    """Return the median and the longest of some times beside what there may be."""
    longest = max(times)
    return (
        f"{what}: median {median(times):.1f} s, longest {longest:.1f} s of {len(times)}, "
        f"{longest / limit:.2f} of the {limit:g} s there are"
    )


def main() -> None:
    """Print the three lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="servers in which a stage fails")
    parser.add_argument("--answers", type=int, default=20, help="answers whose age is taken")
    asked = parser.parse_args()
    with scratch() as folder:
        furnish(folder / "home")
        add_failing(folder / "home")
        own: list[float] = []
        theirs: list[float] = []
        for number in range(asked.rounds):
            home = Path(shutil.copytree(folder / "home", folder / f"home-{number}"))
            first, second = told_after(home, folder / f"prometheus-{number}", 12 + number * 1.3 % 5)
            own.append(first)
            theirs += [second] if second is not None else []
        print(line("from a failing stage to the webhook", own, _NOTICE_SECONDS))
        if not theirs:
            print("Prometheus is not installed: apt-get install prometheus prometheus-alertmanager")
            return
        print(line("the same by Prometheus and Alertmanager", theirs, _NOTICE_SECONDS))
        found = ages(folder / "home", folder / "prometheus", asked.answers)
        shown = [one + _REFRESH_SECONDS for one in found]
        print(line("age of what a dashboard shows, refreshed each second", shown, _AGE_SECONDS))


if __name__ == "__main__":
    main()
