"""A verdict that was answered is there after `kill -9`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

# A hundred starts of a server are minutes on a busy machine; what hangs, hangs within one of them.
pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
KILLS = 100


class Servers:
    """Servers on one home folder, one after the other."""

    def __init__(self, home: Path) -> None:
        environment = {"DISCERN_HOME": str(home), "DISCERN_PORT": "0", "PATH": os.environ["PATH"]}
        self._zygote = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "zygote.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.secret = ""

    def start(self) -> tuple[int, str]:
        """Start a server; return its process id and URL."""
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.write("start\n")
        self._zygote.stdin.flush()
        pid, url = 0, ""
        while not (pid and url):
            line = self._zygote.stdout.readline()
            assert line, "the server did not start"
            if found := re.match(r"pid (\d+)", line):
                pid = int(found[1])
            elif found := re.search(r"listens on (\S+)", line):
                url = found[1]
        while not self.secret:
            if found := re.search(r"dsc_\S+", self._zygote.stdout.readline()):
                self.secret = found[0]
        return pid, url

    def close(self) -> None:
        """End the process that forks the servers."""
        self._zygote.communicate(timeout=10)


def test_a_verdict_that_was_answered_is_there_after_kill_9(home: Path) -> None:
    for name in ("toy-image", "toy-cascade"):
        shutil.rmtree(home / "detectors" / name)
    servers = Servers(home)
    answered: dict[str, bytes] = {}
    record = {"a": 1.0, "b": 2.0}
    with httpx2.Client(timeout=30) as client:
        for number in range(KILLS + 1):
            pid, url = servers.start()
            client.headers["Authorization"] = f"Bearer {servers.secret}"
            for verdict_id, body in answered.items():
                assert client.get(f"{url}/v1/verdicts/{verdict_id}").content == body
            answer = client.post(f"{url}/v1/detectors/toy-record/verdicts", json=record | {"c": float(number % 100)})
            os.kill(pid, signal.SIGKILL)
            assert answer.status_code == 200, answer.text
            # One kill back is the one under test; all of them are looked at once more at the end.
            answered = {answer.json()["id"]: answer.content} if number < KILLS else {}
        pid, url = servers.start()
        assert len(client.get(f"{url}/v1/verdicts?limit=500").json()["verdicts"]) == KILLS + 1
        os.kill(pid, signal.SIGKILL)
    servers.close()
