"""Starts `discern up` over and over: a process with everything imported forks one server for each line it reads.

A fresh interpreter takes a second or two to import what a server needs; a fork of this one takes milliseconds, and is
killed, and started again, just like any other process. Each server announces itself on standard output.
"""

from __future__ import annotations

import os
import sys

# Imported for the forks: what a server imports only once it starts.
import alembic.command  # noqa: F401
import cedarpy  # noqa: F401
import dateutil.parser  # noqa: F401
import psutil  # noqa: F401
import pydantic.v1  # noqa: F401
import uvicorn
import uvicorn.protocols.http.httptools_impl
import uvicorn.protocols.websockets.websockets_sansio_impl  # noqa: F401

from discern.cli import serving  # noqa: F401
from discern.cli.main import build_cli
from discern.http import authentication, bodies, description, health, problems, web_sockets  # noqa: F401


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
