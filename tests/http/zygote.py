"""Starts `discern up` over and over: a process with everything imported forks one server for each line it reads.

A fresh interpreter takes a second or two to import what a server needs; a fork of this one takes milliseconds, and is
killed, and started again, just like any other process. Each server announces itself on standard output.
"""

from __future__ import annotations

import os
import sys

import uvicorn  # noqa: F401 - imported for the forks

from discern.cli.main import build_cli
from discern.http import authentication, bodies, description, health, problems  # noqa: F401 - likewise


def main() -> None:
    """Fork a server for every line on standard input; print `pid N` and let the server print the rest."""
    for _line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            build_cli()(["up"])
            os._exit(0)
        sys.stdout.write(f"pid {pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
