"""Ports for the servers that tests start.

A port that the kernel chose and that was given back can be anybody's seconds later, when the server binds it: ways out
get theirs from the same range. These stand below it, and every process of a test run takes them from a part of its own.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
import subprocess
import time

_FIRST, _EACH, _PARTS = 20_000, 500, 24
_part = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PARTS
_turns = itertools.count(random.SystemRandom().randrange(_EACH))


def free_port() -> int:
    """Return a port of the loopback that nobody listens at."""
    for _ in range(_EACH):
        port = _FIRST + _part * _EACH + next(_turns) % _EACH
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("there is no free port")


def wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    """Return when a process listens at a port of the loopback; where it never does, end it and raise TimeoutError."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    process.kill()
    raise TimeoutError(f"nobody listens at {port}; the process ended with {process.wait()}")
