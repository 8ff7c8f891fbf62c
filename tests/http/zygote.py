"""Starts `discern up` over and over: a process with everything imported forks one server for each line it reads.

A fresh interpreter takes a second or two to import what a server needs; a fork of this one takes milliseconds, and is
killed, and started again, just like any other process. Each server announces itself on standard output.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from discern.cli import serving  # noqa: F401
from discern.cli.main import build_cli
from discern.http import authentication, bodies, description, health, problems, web_sockets  # noqa: F401

# What a server imports only once it starts.
_LATER = (
    "alembic.command",
    "cedarpy",
    "dateutil.parser",
    "psutil",
    "pydantic.v1",
    "uvicorn",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
)


def main() -> None:
    """Fork a server for every line on standard input; print `pid N` and let the server print the rest."""
    for name in _LATER:
        import_module(name)
    for _line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            build_cli()(["up"])
            os._exit(0)
        sys.stdout.write(f"pid {pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
