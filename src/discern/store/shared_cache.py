"""A cache that several processes share, in Redis or Valkey.

- Down or slow means a miss, never an error, and never a wait beyond `wait_seconds`; after three faults in a row it is
  left alone for a second, and twice as long each time that the one who is let through then finds it no better.
- Writing is done beside the requests; what would make the queue longer than `_MOST_WRITES` is dropped and counted.
- What is read is bytes that anybody with access to the server may have written: whoever uses them checks them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from discern.core.breakers import Guard, Patience
from discern.core.counts import Counts
from discern.core.errors import InvalidSettings, MissingExtra

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger(__name__)
CACHE_PATIENCE = Patience(failures=3, first_seconds=1.0, most_seconds=30.0)
_MOST_WRITES = 1_000
_MOST_READS = 32
_MOST_BYTES = 262_144


class SharedCache:
    """Bytes by key, for `keep_seconds`. It connects at the first use, and again after a fault. For one event loop."""

    def __init__(
        self, url: str, *, wait_seconds: float, keep_seconds: int, counts: Counts, guard: Guard | None = None
    ) -> None:
        try:
            from redis.exceptions import RedisError  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtra(
                "`redis_url` is set, but the Redis client is not installed.",
                mend="Install it: pip install 'discern-detectors[server]'.",
                extra="server",
            ) from error
        self._faults = (RedisError, OSError, TimeoutError)
        self._url = url
        self._wait_seconds = wait_seconds
        self._keep_seconds = keep_seconds
        self._counts = counts
        self._client: Redis | None = None
        self._guard = guard or Guard("cache", "shared", CACHE_PATIENCE)
        self._reads = 0
        self._writes: deque[tuple[str, bytes]] = deque()
        self._writer: asyncio.Task[None] | None = None

    async def get(self, key: str) -> bytes | None:
        """Return what is kept under `key`, None when there is nothing, or nobody who answers in time."""
        if self._reads >= _MOST_READS or not self._guard.admits():
            return None
        self._reads += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                found = await self._connected().get(key)
        except self._faults as error:
            self._note(error)
            return None
        finally:
            self._reads -= 1
        self._guard.succeeded()
        return found if isinstance(found, bytes) and len(found) <= _MOST_BYTES else None

    def put(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`, soon; it is dropped while nobody takes it."""
        full = len(self._writes) >= _MOST_WRITES
        # Whether it answers again is tried by reading.
        if full or len(value) > _MOST_BYTES or not self._guard.is_closed:
            self._counts.add("cache.dropped_writes")
            return
        self._writes.append((key, value))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def close(self) -> None:
        """Let go of the connections; what was not written yet is dropped."""
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def _write(self) -> None:
        while self._writes:
            key, value = self._writes.popleft()
            try:
                async with asyncio.timeout(max(1.0, self._wait_seconds)):
                    await self._connected().set(key, value, ex=self._keep_seconds)
            except self._faults as error:
                self._counts.add("cache.dropped_writes", 1 + len(self._writes))
                self._writes.clear()
                self._note(error)

    def _note(self, error: BaseException) -> None:
        # The address may hold a password, so only the kind of fault is told.
        self._guard.failed(type(error).__name__)
        self._counts.add("cache.shared_faults")
        log.warning("shared_cache_silent", extra={"fault": type(error).__name__})

    def _connected(self) -> Redis:
        if self._client is None:
            from redis.asyncio import Redis  # noqa: PLC0415 - an extra
            from redis.asyncio.retry import Retry  # noqa: PLC0415
            from redis.backoff import NoBackoff  # noqa: PLC0415

            try:
                self._client = Redis.from_url(
                    self._url,
                    socket_timeout=max(1.0, self._wait_seconds),
                    socket_connect_timeout=max(1.0, self._wait_seconds),
                    retry=Retry(NoBackoff(), 0),
                    max_connections=2 * _MOST_READS,
                )
            except ValueError as error:
                raise InvalidSettings(
                    "`redis_url` is not the address of a Redis server.", mend="Write redis://host:6379/0."
                ) from error
        return self._client
