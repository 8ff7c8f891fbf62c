"""Hands traces on to an OTLP endpoint (HTTP, protobuf): Jaeger, Tempo, the OpenTelemetry Collector.

- Of the requests whose callers keep a trace, and of the share `ratio` of the others, each `MOST_A_SECOND` at most are
  traced in a process. It counts for nothing what strangers say: who asks has shown a key by then.
- Whoever is answered waits for nothing: traces gather in memory, up to `_MOST_SPANS` spans, and one thread sends them.
  What does not fit, or is not taken, is dropped, counted, and told in the log once a minute at most.
- An endpoint that does not answer is asked again after pauses that double. The end of a process waits for it for
  `_CLOSE_SECONDS` at most.
- Without the extra `tracing` the log says so, and nothing is traced.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import discern
from discern.core.errors import CallerError
from discern.core.measures import Measures
from discern.core.tracing import Attribute, Headers, Parent, Trace, parent_of
from discern.monitoring.tracing.rules import MOST_A_SECOND, Allowance, Endpoint, endpoint_of, is_passing, pause_after
from discern.monitoring.tracing.types import DROPPED, EXPORTED

if TYPE_CHECKING:
    from discern.monitoring.tracing.sources import Ended

log = logging.getLogger(__name__)
_MOST_SPANS = 20_000
_MOST_SPANS_TOGETHER = 1_000
_GATHER_SECONDS = 1.0
_CLOSE_SECONDS = 3.0
_TOLD_EVERY_SECONDS = 60.0
Post = Callable[[str, bytes, Mapping[str, str]], int]
"""Sends a POST and returns the status of the answer. Raises CallerError or OSError."""


class Poster(Protocol):
    """Makes what posts to a host that the operator named."""

    def __call__(self, host: str) -> Post:
        """Return it."""
        ...


class OtlpTracer:
    """Traces that are sent to `url`, the base of an endpoint such as `http://localhost:4318`; off without one."""

    def __init__(self, url: str, headers: str, ratio: float, measures: Measures, poster: Poster) -> None:
        self._url, self._headers_given, self._ratio = url, headers, ratio
        self._measures, self._poster = measures, poster
        now = time.monotonic()
        self._asked, self._drawn = Allowance(MOST_A_SECOND, now), Allowance(MOST_A_SECOND, now)
        self._changed = threading.Condition()
        self._waiting: deque[Ended] = deque()
        self._spans = 0
        self._closing = False
        self._thread: threading.Thread | None = None
        self._told_at = float("-inf")
        self._untold = 0
        self._is_on = False

    @property
    def is_on(self) -> bool:
        """Whether anything is ever traced."""
        return self._is_on

    def open(self) -> None:
        """Begin to trace, where there is an endpoint. Raises InvalidSettings."""
        if not self._url:
            return
        self._endpoint: Endpoint = endpoint_of(self._url, self._headers_given)
        try:
            from discern.monitoring.tracing.sources import Ended, request_of  # noqa: PLC0415 - needs an extra
        except ImportError:
            log.warning("traces_are_off", extra={"mend": "Install the extra `tracing`, or unset `trace_url`."})
            return
        self._ended, self._request_of = Ended, request_of
        self._post = self._poster(self._endpoint.host)
        self._resource: dict[str, Attribute] = {
            "service.name": "discern",
            "service.version": discern.__version__,
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
            "host.name": socket.gethostname(),
            "process.pid": os.getpid(),
        }
        self._is_on = True

    def sample(self, headers: Headers = ()) -> Parent | None:
        """Decide whether what comes with these headers is traced. For one thread at a time."""
        parent = parent_of(headers)
        if parent.sampled:
            return parent if self._asked.take(time.monotonic()) else None
        if random.random() < self._ratio and self._drawn.take(time.monotonic()):  # noqa: S311  # nosec B311
            return parent
        return None

    def end(self, trace: Trace) -> None:
        """Have a trace sent, soon."""
        if not self._is_on:
            return
        ended = self._ended(trace, time.time() - time.perf_counter())
        with self._changed:
            if self._closing or self._spans + ended.spans > _MOST_SPANS:
                self._drop(ended.spans, "full")
                return
            self._waiting.append(ended)
            self._spans += ended.spans
            if self._thread is None:
                # Nobody waits for it at the end of the process, whatever it is doing.
                self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Send what waits, for some seconds at most."""
        with self._changed:
            self._is_on, self._closing = False, True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)
        with self._changed:
            self._drop(self._spans, "stopped")
            self._waiting.clear()
            self._spans = 0

    def _run(self) -> None:
        failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                # What else is finished in a moment goes along; after a failure the endpoint gets its time.
                pause = pause_after(failures) if failures else _GATHER_SECONDS
                self._changed.wait_for(lambda: self._closing, pause)
                together, spans = self._taken()
            if not together:
                continue
            if self._sent(together, spans):
                failures = 0
                continue
            failures += 1
            with self._changed:
                if self._closing:
                    self._drop(spans, "stopped")
                    continue
                if self._spans + spans > _MOST_SPANS:
                    self._drop(spans, "full")
                    continue
                self._waiting.extendleft(reversed(together))
                self._spans += spans

    def _taken(self) -> tuple[list[Ended], int]:
        together: list[Ended] = []
        spans = 0
        while self._waiting and spans < _MOST_SPANS_TOGETHER:
            together.append(self._waiting.popleft())
            spans += together[-1].spans
        self._spans = max(0, self._spans - spans)
        return together, spans

    def _sent(self, together: list[Ended], spans: int) -> bool:
        """Send some; tell whether they are dealt with, so or so."""
        try:
            body = self._request_of(together, self._resource, discern.__version__)
            status = self._post(
                self._endpoint.url,
                body,
                {"Content-Type": "application/x-protobuf", "User-Agent": "Discern", **self._endpoint.headers},
            )
        except CallerError as refused:
            detail, passing = refused.detail, False
        except OSError as error:
            detail, passing = f"{type(error).__name__}: {error}", True
        except (AttributeError, LookupError, TypeError, ValueError):
            # Of a body that cannot be made, or a cut connection. There is one thread: with it every further trace would
            # be lost, and nobody would hear of it.
            log.exception("defect", extra={"sends": "traces"})
            detail, passing = "a defect of ours, which is in the log", False
        else:
            if 200 <= status < 300:
                self._measures.count(EXPORTED, amount=spans)
                return True
            detail, passing = f"the endpoint answered {status}", is_passing(status)
        if not passing:
            self._drop(spans, "refused")
        self._tell(detail)
        return not passing

    def _drop(self, spans: int, reason: str) -> None:
        if spans:
            self._measures.count(DROPPED, reason, amount=spans)
            self._untold += spans

    def _tell(self, detail: str) -> None:
        now = time.monotonic()
        if now - self._told_at >= _TOLD_EVERY_SECONDS:
            log.warning("traces_not_sent", extra={"detail": detail[:300], "spans_dropped": self._untold})
            self._told_at, self._untold = now, 0
