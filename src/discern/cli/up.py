"""`discern up`: start the server.

- The first start makes an API key and prints it once; only its hash is kept.
- One worker is this process itself, which nobody replaces when it dies; several are kept alive by a supervisor.
- The socket is bound before anything is printed, so what is printed is true.
"""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Callable
from dataclasses import replace

import typer

import discern
from discern.app import Services, build_services
from discern.app_storage import no_subjects
from discern.cli.logs import configure_logging, configure_server_logging
from discern.core.errors import InvalidSettings
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.monitoring.metrics.sources_processes import shared_folder
from discern.settings import Settings

# Connections the kernel holds for us; more only means more noise when none can be accepted.
_BACKLOG = 512


def up_command(cli: typer.Typer, load: Callable[[], Settings]) -> None:
    """Add the command to `cli`."""

    @cli.command("up")
    def up(
        workers: int = typer.Option(0, "--workers", "-w", min=0, help="Processes that answer; 0 takes the setting."),
    ) -> None:
        """Start the server; stop it with Ctrl-C or SIGTERM. With several workers SIGHUP replaces them one by one."""
        settings = load()
        settings = replace(settings, workers=workers or settings.workers)
        _raise_file_limit()
        if settings.workers == 1:
            configure_server_logging(settings)
        else:  # the supervisor's own few lines
            configure_logging(settings.log_level)
        services = build_services(settings)
        services.open()
        try:
            services.federation.open()  # what is wrong with it is said before anybody is told that we listen
            services.monitoring.alerts.open()
            listeners = _bind(settings)
            _announce(services, listeners[0])
            if settings.workers == 1:
                _serve(services, listeners[0])
        finally:
            services.close()
        if settings.workers > 1:
            from discern.cli.supervisor import Supervisor  # noqa: PLC0415 - other commands do without

            with shared_folder(settings.home) as metrics:
                supervisor = Supervisor(listeners, settings.drain_seconds, metrics, settings.hang_seconds)
                raise typer.Exit(supervisor.run())


def _serve(services: Services, listener: socket.socket) -> None:
    from discern.cli.serving import serve  # noqa: PLC0415 - other commands do without
    from discern.http.statistics import Place  # noqa: PLC0415

    # The first question need not wait for the models; a detector asked for earlier is loaded then and there.
    threading.Thread(target=services.catalogue.load_all, name="load-detectors", daemon=True).start()
    serve(services, listener, Place())


def _raise_file_limit() -> None:
    """Let this process have as many open files, and so connections, as it is allowed to ask for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _bind(settings: Settings) -> list[socket.socket]:
    """Return a listening socket for each worker, all on one address."""
    several = settings.workers > 1
    try:
        listeners = [_listener(settings.host, settings.port, several)]
        port = listeners[0].getsockname()[1]
        listeners += [_listener(settings.host, port, several) for _ in range(settings.workers - 1)]
    except OSError as error:
        raise InvalidSettings(
            f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}.",
            mend="See that DISCERN_HOST is an address of this machine and nothing else uses DISCERN_PORT.",
        ) from error
    return listeners


def _listener(host: str, port: int, several: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=several)
    # Accepted sockets inherit it. Without it the body of an answer waits for the client to acknowledge the headers,
    # which takes 40 ms; asyncio sees to it only for sockets it has made itself.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _announce(services: Services, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    scheme = "https" if services.settings.tls_certificate else "http"
    url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    typer.echo(f"Discern {discern.__version__} listens on {url} (API page: {url}/docs, data: {services.settings.home})")
    if host not in {"127.0.0.1", "::1"} and scheme == "http":
        detail = (
            "It is reachable from other machines without TLS: set DISCERN_TLS_CERTIFICATE, or put a proxy in front."
        )
        typer.echo(detail, err=True)
    missing = no_subjects(services.settings)
    if missing is not None:
        typer.echo(str(missing), err=True)
    issued = services.keys.issue_first(DEFAULT_WORKSPACE)
    if issued is not None:
        typer.echo(
            f"\nYour API key, shown this once: {issued.secret}\n\nTry it:\n"
            f'  curl -H "Authorization: Bearer {issued.secret}" --data-binary @photo.jpg '
            f"{url}/v1/detectors/synthetic-face/verdicts\n"
        )
