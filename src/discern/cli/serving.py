"""One server process: uvicorn with our limits, and an end that loses nothing.

- Told to stop, it takes no further connections and answers what is in work. For a moment it goes on answering on open
  connections too, each answer with `Connection: close`, so that a request that is on its way is not cut off.
- `/readyz` says that it is going while it does.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import ssl
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial

import uvicorn
from anyio import to_thread

from discern.app import Services
from discern.app_http import create_app
from discern.core.errors import InvalidSettings, StorageUnavailable
from discern.core.loops import Loop, take_turn
from discern.http.connections import Connection, ConnectionLimits, connection_class
from discern.http.edge import standing_headers
from discern.http.plain import Application
from discern.http.statistics import Place
from discern.http.web_sockets import WebSocketConnection, WebSocketLimits, web_socket_class

# How long open connections may bring one more request after the stop was asked for.
_LAST_CALL_SECONDS = 1.0
_IN_PROGRESS = "discern_http_requests_in_progress"
_HOUSE_SECONDS = 5.0
_REAPPLY_SECONDS = 3600.0
_TEND_SECONDS = 60.0
# Of a master key in the cloud each look is a request that is paid for.
_LOOK_SECONDS = 15.0


class Server(uvicorn.Server):
    """A server that looks after its connections. `on_ready` is called once it accepts them."""

    def __init__(
        self,
        config: uvicorn.Config,
        app: Application,
        services: Services,
        on_ready: Callable[[], None],
        beat: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._beat = beat
        self._services = services
        self._app = app
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        await super().startup(sockets)
        await self._services.jobs.start()
        self._keeping = [
            asyncio.create_task(self._keep_house()),
            asyncio.create_task(self._keep_objects()),
            asyncio.create_task(self._tend_the_ledger()),
            *(asyncio.create_task(_go_on(loop)) for loop in self._services.monitoring.loops),
        ]
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        """Say that the loop turns, and look at every connection once a second."""
        self._beat()
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection | WebSocketConnection):
                    connection.look(now)
        return await super().on_tick(counter)

    async def _keep_house(self) -> None:
        """Do what nobody waits for, every few seconds, off the event loop."""
        services, reapply_at = self._services, 0.0
        while True:
            if asyncio.get_running_loop().time() >= reapply_at:
                reapply_at = asyncio.get_running_loop().time() + _REAPPLY_SECONDS
                await take_turn("privacy", to_thread.run_sync(services.privacy.reapply_quietly))
            await asyncio.sleep(_HOUSE_SECONDS)
            await take_turn("keys", to_thread.run_sync(services.keys.write_down_uses))
            await take_turn("users", to_thread.run_sync(services.users.write_down_uses))
            await take_turn("probing", to_thread.run_sync(services.plane.watch.look))
            await take_turn("audit", to_thread.run_sync(services.audit.anchor))
            await take_turn("quotas", to_thread.run_sync(services.quotas.settle))

    async def _tend_the_ledger(self) -> None:
        """Make months and delete what is old, which may take long; `tend` knows when it is time."""
        while True:
            await take_turn("retention", to_thread.run_sync(self._services.retention.tend))
            await asyncio.sleep(_TEND_SECONDS)

    async def _keep_objects(self) -> None:
        """See to the objects likewise, by itself: a store that does not answer takes its time."""
        while True:
            await take_turn("objects", to_thread.run_sync(self._services.objects.look, abandon_on_cancel=True))
            await take_turn("objects", to_thread.run_sync(self._tidy_objects, abandon_on_cancel=True))
            await asyncio.sleep(_LOOK_SECONDS)

    def _tidy_objects(self) -> None:
        with suppress(StorageUnavailable):  # tried again
            self._services.objects.tidy()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let what is open end by itself for a moment, then have uvicorn end the rest."""
        for server in self.servers:
            server.close()
        self._app.draining = True
        await self._app.drain_streams()
        loop = asyncio.get_running_loop()
        until = loop.time() + _LAST_CALL_SECONDS
        while loop.time() < until and self.server_state.connections and not self.force_exit:  # noqa: ASYNC110 - a plain set
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)
        self._services.retention.stop()
        for task in self._keeping:
            task.cancel()
        await asyncio.wait(self._keeping)
        await self._services.jobs.stop()
        await self._services.cache.close()


async def _go_on(loop: Loop) -> None:
    while True:
        await asyncio.sleep(loop.seconds)
        await take_turn(loop.name, to_thread.run_sync(loop.turn, abandon_on_cancel=True))


def _in_progress(connections: Collection[object]) -> int:
    """Return how many requests wait for an answer. Any thread may ask."""
    cycles = (one.cycle for one in list(connections) if isinstance(one, Connection))
    return sum(cycle is not None and not cycle.response_complete for cycle in cycles)


def _load(config: uvicorn.Config) -> None:
    """Have the certificates read. Raises InvalidSettings."""
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise InvalidSettings(
            f"The certificates cannot be used: {error}.", mend="See tls_certificate, tls_key and tls_client_ca."
        ) from error
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3


def serve(
    services: Services, listener: socket.socket, place: Place, on_ready: Callable[[], None] = lambda: None
) -> None:
    """Serve on a bound socket until SIGTERM or SIGINT, and answer what is in work before returning."""
    settings = services.settings
    app = create_app(services, place)
    limits = ConnectionLimits(
        header_seconds=settings.header_seconds,
        header_bytes=settings.header_bytes,
        write_seconds=settings.write_seconds,
        max_connections=settings.max_connections,
        max_connections_per_address=settings.max_connections_per_address,
    )
    config = uvicorn.Config(
        app,
        headers=standing_headers(tls=bool(settings.tls_certificate), subdomains=settings.hsts_subdomains == 1),
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        ssl_ca_certs=None if settings.tls_client_ca is None else str(settings.tls_client_ca),
        ssl_cert_reqs=ssl.CERT_NONE if settings.tls_client_ca is None else ssl.CERT_OPTIONAL,
        http=connection_class(limits, services.counts, app.direct),
        ws=web_socket_class(
            WebSocketLimits(settings.write_seconds, settings.header_seconds, settings.stream_waiting_bytes),
            services.counts,
        ),
        ws_max_size=max(settings.image_bytes, settings.record_bytes),
        ws_per_message_deflate=False,
        proxy_headers=False,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        lifespan="off",
        timeout_keep_alive=max(1, round(settings.idle_seconds)),
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )
    server = Server(config, app, services, on_ready, place.beat)
    services.counts.measures.gauges[_IN_PROGRESS] = partial(_in_progress, server.server_state.connections)
    services.monitoring.metrics.open(place.metrics, place.supervised)
    # uvicorn listens for these only once it runs, and raises what stopped it once more when it has drained. A stop that
    # comes before must not be lost, and the one that comes after changes nothing.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    _load(config)
    # What was imported stays for good, so the collector need not look through it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    server.run(sockets=[listener])
