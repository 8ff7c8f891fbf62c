"""One server process below the supervisor.

    python -m discern.cli.worker LISTENER READY LIFE COUNTS SLOT WORKERS METRICS [EPITAPH]

The first four are open file descriptors: the socket it listens on, where it says that it is ready, what closes when
the supervisor ends, and the supervisor's counts. METRICS is the folder of the metrics. The epitaph says of the process
whose place this one takes how it ended: `died PID EXIT` or `hung PID EXIT`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

from discern.app import build_services
from discern.cli.logs import configure_server_logging
from discern.cli.serving import serve
from discern.cli.supervisor import SIGNALS, SharedCounts
from discern.core.errors import DiscernError
from discern.http.statistics import Place
from discern.settings import load_settings


def main(arguments: list[str]) -> int:
    """Serve until told to stop; return the exit code."""
    listener_fd, ready_fd, life_fd, counts_fd, slot, workers = map(int, arguments[:6])
    # The supervisor waits for these with them blocked, and a child inherits that.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    settings = replace(load_settings(), workers=workers)
    configure_server_logging(settings, slot)
    services = build_services(settings)
    supervised = SharedCounts(workers, counts_fd)
    threading.Thread(target=_end_with_the_supervisor, args=[life_fd], name="life", daemon=True).start()
    services.open()
    try:
        threading.Thread(target=services.catalogue.load_all, name="load-detectors", daemon=True).start()
        if len(arguments) > 7:
            manner, pid, code = arguments[7].split()
            services.monitoring.happenings.tell(
                "worker.replaced", f"worker {slot}", manner=manner, pid=int(pid), exit=int(code)
            )
        place = Place(
            slot=slot, supervised=supervised.read, metrics=Path(arguments[6]), beat=partial(supervised.beat, slot)
        )
        serve(services, socket.socket(fileno=listener_fd), place, lambda: _say_ready(ready_fd))
    finally:
        services.close()
    return 0


def _say_ready(fd: int) -> None:
    os.write(fd, b"!")
    os.close(fd)


def _end_with_the_supervisor(life_fd: int) -> None:
    """Stop gently when the supervisor is gone, however it went."""
    os.read(life_fd, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except DiscernError as error:
        sys.stderr.write(f"discern: {error}\n")
        sys.exit(1)
