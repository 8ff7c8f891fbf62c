"""Answers that are known: the same input to the same version of a detector is not judged twice.

- A key holds workspace, detector, version, the bundle's digest, the input's digest and what located the face: nothing
  else decides an answer, and no workspace learns what another has asked.
- An answer out of the cache is a verdict of its own, with its own id and time and `cached` set; it goes on the ledger,
  and says nothing of the verdict it was known from, which may be deleted by then.
- A verdict of which a stage failed is not kept.
- The shared cache is not believed: what does not decode strictly, or names another detector, version or input than
  was asked for, is a miss.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import NamedTuple, Protocol

import msgspec

from discern.core.counts import Counts
from discern.core.verdict import Verdict

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Verdict).decode


class AnswerKey(NamedTuple):
    """What an answer follows from."""

    workspace: str
    detector: str
    version: str
    bundle_sha256: str
    input_sha256: str
    face_locator: str
    variant: str | None


class Shared(Protocol):
    """Bytes by key beyond this process. When it is down or slow it has nothing: allow."""

    async def get(self, key: str) -> bytes | None:
        """Return what is kept under `key`, or None."""
        ...

    def put(self, key: str, value: bytes) -> None:
        """Keep `value`, soon."""
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...


class AnswerCache:
    """At most `entries` verdicts, each for `keep_seconds`, and beyond them what `shared` has. For one event loop."""

    def __init__(self, *, entries: int, keep_seconds: float, shared: Shared | None, counts: Counts) -> None:
        self._entries = entries
        self._keep_seconds = keep_seconds
        self._shared = shared
        self._counts = counts
        # By last use: the key used longest ago is first.
        self._known: OrderedDict[AnswerKey, tuple[Verdict, float]] = OrderedDict()

    @property
    def is_off(self) -> bool:
        """Whether nothing is kept."""
        return self._entries == 0

    @property
    def is_shared(self) -> bool:
        """Whether other processes may know more, which takes waiting."""
        return self._shared is not None

    def count_miss(self, workspace: str) -> None:
        """Count a question that nobody knew the answer to."""
        self._counts.add("cache.misses", workspace=workspace)

    async def get(self, key: AnswerKey) -> Verdict | None:
        """Return the verdict that was given to the same question, or None."""
        verdict = self.at_hand(key)
        if verdict is not None:
            return verdict
        if self._shared is not None:
            found = await self._shared.get(_shared_key(key))
            verdict_found = None if found is None else _believed(found, key)
            if verdict_found is not None:
                self._counts.add("cache.shared_hits", workspace=key.workspace)
                self._remember(key, verdict_found)
                return verdict_found
        self.count_miss(key.workspace)
        return None

    def at_hand(self, key: AnswerKey) -> Verdict | None:
        """Return what this process has, counted where it has it."""
        known = self._known.get(key)
        if known is None:
            return None
        verdict, until = known
        if time.monotonic() >= until:
            del self._known[key]
            return None
        self._known.move_to_end(key)
        self._counts.add("cache.hits", workspace=key.workspace)
        return verdict

    def put(self, key: AnswerKey, verdict: Verdict) -> None:
        """Keep a verdict, unless a stage of it failed."""
        if verdict.degraded is not None:
            return
        self._remember(key, verdict)
        if self._shared is not None:
            self._shared.put(_shared_key(key), _encode(verdict))

    async def close(self) -> None:
        """Let go of the shared cache."""
        if self._shared is not None:
            await self._shared.close()

    def _remember(self, key: AnswerKey, verdict: Verdict) -> None:
        self._known[key] = verdict, time.monotonic() + self._keep_seconds
        if len(self._known) > self._entries:
            self._known.popitem(last=False)


def _shared_key(key: AnswerKey) -> str:
    return f"discern:1:{hashlib.sha256(_encode(key)).hexdigest()}"


def _believed(value: bytes, key: AnswerKey) -> Verdict | None:
    try:
        verdict = _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    named = verdict.workspace, verdict.detector, verdict.version, verdict.input.sha256
    asked = key.workspace, key.detector, key.version, key.input_sha256
    return verdict if named == asked and verdict.degraded is None and 0 <= verdict.score <= 1 else None
