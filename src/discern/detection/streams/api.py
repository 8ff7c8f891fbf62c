"""The WebSocket that live streams come over.

- A stream is opened with a key, and ends within seconds of the key's end, or of the erasure of whom it is about.
- A client that sends nothing for `stream_idle_seconds` is let go, and one that does not read by the connection itself.
- More streams than `max_streams`, or of one workspace than `max_streams_per_workspace`, are refused before they are
  opened, with when to try again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from anyio import to_thread
from starlette.types import Receive, Scope, Send

from discern.access.ports import PrincipalReader
from discern.core.counts import Counts
from discern.core.errors import DiscernError, Overloaded, StorageUnavailable
from discern.core.loops import take_turn
from discern.detection.ports import DetectorSource, ProblemReader
from discern.detection.streams.service import Held, Parts, Stream
from discern.detection.streams.types import KeyCheck, Record, StreamLimits
from discern.detection.types import Detect
from discern.detectors.assessment import Detector
from discern.privacy.ports import Subjects, subject_of
from discern.privacy.types import Subject

SUBPROTOCOL = "discern.v1"
_LOOK_SECONDS = 1.0
_KEY_SECONDS = 3.0
_FINISH_SECONDS = 5.0
# RFC 6455, section 7.4.1, and the IANA registry.
_GOING_AWAY, _POLICY, _DEFECT, _RESTART = 1001, 1008, 1011, 1012


class StreamEndpoint:
    """The route, as a plain ASGI application; what is of HTTP is handed in."""

    def __init__(
        self,
        detect: Detect,
        record: Record,
        detectors: DetectorSource,
        limits: StreamLimits,
        counts: Counts,
        *,
        principal_of: PrincipalReader,
        problem_of: ProblemReader,
        key_check_of: Callable[[Scope], KeyCheck],
        subjects: Subjects,
    ) -> None:
        self._parts = Parts(detect, record, limits, Held(limits.waiting_bytes), counts, problem_of)
        self._detectors = detectors
        self._principal_of = principal_of
        self._key_check_of = key_check_of
        self._subjects = subjects
        self._open: dict[Stream, Send] = {}
        self._open_of: Counter[str] = Counter()
        self._watch: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one stream to its end. Raises what opening it raises, before it is accepted."""
        if (await receive())["type"] != "websocket.connect":
            return
        detector = await self._detector(scope["path_params"]["name"])
        principal, counts = self._principal_of(scope), self._parts.counts
        workspace = principal.workspace
        self._check_room(workspace)
        stream = Stream(
            self._parts,
            detector,
            principal,
            subject_of(scope),
            self._key_check_of(scope),
            _text_sender(send),
        )
        self._open[stream] = send
        self._open_of[workspace] += 1
        counts.add("streams.opened", workspace=workspace)
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._look_after_all())
        try:
            offered = scope.get("subprotocols") or ()
            await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL if SUBPROTOCOL in offered else None})
            while (message := await receive())["type"] == "websocket.receive":
                content = message.get("bytes")
                await stream.take(message["text"] if content is None else content)
        finally:
            del self._open[stream]
            self._open_of[workspace] -= 1
            counts.add("streams.closed", workspace=workspace)
            stream.abandon()

    def _check_room(self, workspace: str) -> None:
        limits = self._parts.limits
        for name, found, most in (
            ("max_streams", len(self._open), limits.most),
            ("max_streams_per_workspace", self._open_of[workspace], limits.most_of_a_workspace),
        ):
            if 0 < most <= found:
                self._parts.counts.add(f"limits.{name}", workspace=workspace)
                raise _too_many(name, most)

    async def drain(self) -> None:
        """Answer what was sent on every stream, and close it for a restart."""
        streams = list(self._open)
        finishing = [asyncio.ensure_future(stream.finish()) for stream in streams]
        if finishing:
            await asyncio.wait(finishing, timeout=_FINISH_SECONDS)
        for stream in streams:
            await self._close(stream, _RESTART, "the server is restarting")

    async def _detector(self, name: str) -> Detector:
        loaded = self._detectors.loaded(name)
        return await to_thread.run_sync(self._detectors.get, name) if loaded is None else loaded

    async def _look_after_all(self) -> None:
        """End streams that are idle, failed, or whose key is no longer good, once a second while there are any."""
        loop = asyncio.get_running_loop()
        keys_at = loop.time()
        while self._open:
            await asyncio.sleep(_LOOK_SECONDS)
            now = loop.time()
            await take_turn("streams", self._look_at_the_streams(now))
            if now - keys_at >= _KEY_SECONDS:
                keys_at = now
                await take_turn("streams", self._look_at_the_keys())
                await take_turn("streams", self._look_at_the_subjects())

    async def _look_at_the_streams(self, now: float) -> None:
        for stream in list(self._open):
            if stream.has_failed:
                await self._close(stream, _DEFECT, "something went wrong; it is in the server's log")
            elif now - stream.heard_at > self._parts.limits.idle_seconds:
                self._parts.counts.add("limits.stream_idle_seconds", workspace=stream.principal.workspace)
                await self._close(stream, _GOING_AWAY, "nothing came for stream_idle_seconds")

    async def _look_at_the_keys(self) -> None:
        of_key: dict[str, list[Stream]] = {}
        for stream in self._open:
            of_key.setdefault(stream.principal.id, []).append(stream)
        for streams in of_key.values():
            if not await streams[0].key_is_good():
                for stream in streams:
                    await self._close(stream, _POLICY, "the key is not valid any more")

    async def _look_at_the_subjects(self) -> None:
        for stream in list(self._open):
            workspace = stream.principal.workspace
            if stream.subject is None and self._subjects.may_be_unnamed(workspace):
                continue
            if not await to_thread.run_sync(self._may_go_on, workspace, stream.subject):
                await self._close(stream, _POLICY, "the subject was erased, or consent is missing")

    def _may_go_on(self, workspace: str, subject: Subject | None) -> bool:
        """Tell whether a stream may go on, about whom it is; where the database does not answer, it may."""
        try:
            if subject is None:
                return self._subjects.admit(workspace, None) is None
            found = self._subjects.again(workspace, subject.reference)
        except StorageUnavailable:
            return True
        except DiscernError:  # consent is missing, or a key of theirs cannot be had
            return False
        return found is not None and found.key_id == subject.key_id

    async def _close(self, stream: Stream, code: int, reason: str) -> None:
        send = self._open.get(stream)
        if send is not None:
            # A client that does not read keeps its own close waiting, and nobody else's.
            asyncio.ensure_future(_closing(send, code, reason)).add_done_callback(_look_at)


async def _closing(send: Send, code: int, reason: str) -> None:
    await send({"type": "websocket.close", "code": code, "reason": reason})


def _look_at(done: asyncio.Future[None]) -> None:
    # Closed by the client in the meantime: OSError, or RuntimeError for a second close.
    if not done.cancelled() and not isinstance(done.exception(), OSError | RuntimeError | None):
        done.result()


def _text_sender(send: Send) -> Callable[[bytes], Any]:
    async def send_text(content: bytes) -> None:
        try:
            await send({"type": "websocket.send", "text": content.decode()})
        except RuntimeError as error:  # what uvicorn says of a message after the end
            raise ConnectionError from error

    return send_text


def _too_many(limit: str, allowed: int) -> Overloaded:
    return Overloaded(
        f"As many streams as `{limit}` allows ({allowed}) are open.",
        mend="Close some, or try again in a moment.",
        retry_after=5.0,
        limit=limit,
        allowed=allowed,
    )
