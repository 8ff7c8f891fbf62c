"""One open stream: messages in, verdicts out, in the order of the messages.

- Every message gets one answer under its number: a verdict that is on the ledger, or an error; but for frames that were
  dropped, which a `slow_down` counts.
- What waits is bounded: of frames the oldest is dropped for the newest, records are not read before there is room.
- While nothing comes a stream has one task, and no queue of its own but an empty one.
- A message that cannot be judged is answered with an error and ends nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from discern.access.types import Principal
from discern.core.clock import utc_now
from discern.core.counts import Counts
from discern.core.errors import DiscernError, NoFaceFound, UnsupportedInput
from discern.core.ids import uuid7_text
from discern.core.verdict import InputFacts, Verdict
from discern.detection.ports import ProblemReader
from discern.detection.streams.rules import Window, Windows
from discern.detection.streams.types import KeyCheck, Record, StreamLimits
from discern.detection.types import Detect, DetectionRequest, LedgerEntry
from discern.detectors.assessment import Detector
from discern.inputs.source import is_video
from discern.inputs.spec import ImageSpec
from discern.privacy.types import Subject

log = logging.getLogger(__name__)

_TOGETHER = 16
_WARN_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 0.05
_SAMPLE_SECONDS = 10.0
_encode = msgspec.json.Encoder().encode

Send = Callable[[bytes], Awaitable[None]]
"""Sends one text message. Raises OSError when the client is gone."""


class Held:
    """The bytes that wait in all streams of a process, at most `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    def take(self, size: int) -> bool:
        """Tell whether there is room for `size` bytes, and take it."""
        if self._held and self._held + size > self._most:
            return False
        self._held += size
        return True

    def give_back(self, size: int) -> None:
        """Give back what was taken."""
        self._held -= size


class _Waiting(NamedTuple):
    sequence: int
    content: bytes | DiscernError
    at: float


class Parts(NamedTuple):
    """What every stream of a process works with."""

    detect: Detect
    record: Record
    limits: StreamLimits
    held: Held
    counts: Counts
    problem_of: ProblemReader


class Stream:
    """One stream of `principal` to `detector`, about `subject` if that is not None."""

    __slots__ = (
        "_closing",
        "_dropped",
        "_gone",
        "_is_image",
        "_manifest",
        "_parts",
        "_room",
        "_sampled_at",
        "_send",
        "_sequence",
        "_variant",
        "_waiting",
        "_warned_at",
        "_windows",
        "_worker",
        "has_failed",
        "heard_at",
        "key_is_good",
        "principal",
        "subject",
    )

    def __init__(
        self,
        parts: Parts,
        detector: Detector,
        principal: Principal,
        subject: Subject | None,
        key_is_good: KeyCheck,
        send: Send,
    ) -> None:
        self._parts = parts
        manifest = self._manifest = detector.manifest
        self._variant = detector.variant
        self._send = send
        self._is_image = isinstance(manifest.input, ImageSpec)
        self._windows = None if manifest.stream is None else Windows(manifest.stream)
        self._waiting: deque[_Waiting] | None = None
        self._worker: asyncio.Task[None] | None = None
        self._room: asyncio.Event | None = None
        self._sequence = 0
        self._dropped = 0
        self._gone = False
        self._warned_at = 0.0
        self._sampled_at = -_SAMPLE_SECONDS
        self._closing = False
        self.principal = principal
        self.subject = subject
        self.key_is_good = key_is_good
        self.has_failed = False
        self.heard_at = asyncio.get_running_loop().time()

    async def take(self, content: bytes | str) -> None:
        """Take one message; returns when there is room for the next. Messages are numbered from 1."""
        now = self.heard_at = asyncio.get_running_loop().time()
        self._sequence += 1
        self._count("streams.messages")
        if self._closing or self._gone:
            return
        if self._is_image:
            self._take_frame(content, now)
        else:
            await self._take_record(content.encode() if isinstance(content, str) else content, now)

    async def finish(self) -> None:
        """Answer what was taken, and take nothing more."""
        self._closing = True
        if self._worker is not None:
            await asyncio.wait([self._worker])

    def abandon(self) -> None:
        """Let go of everything: the client is gone."""
        self._gone = True
        if self._worker is not None:
            self._worker.cancel()
        while self._waiting:
            self._forget(self._waiting.popleft())

    def _count(self, name: str) -> None:
        self._parts.counts.add(name, workspace=self.principal.workspace)

    def _take_frame(self, content: bytes | str, now: float) -> None:
        if isinstance(content, str):
            detail = f"{self._manifest.name} takes frames, and a frame is a binary message; this one is text."
            mend = "Send the bytes of a JPEG, PNG or WebP picture as a binary message."
            self._queue(_Waiting(self._sequence, UnsupportedInput(detail, mend=mend), now))
            return
        if is_video(content):
            detail = "The message is a video; a stream takes its frames one by one."
            mend = "Send each frame as a picture, or the video as a job."
            self._queue(_Waiting(self._sequence, UnsupportedInput(detail, mend=mend), now))
            return
        waiting = self._waiting
        if waiting and len(waiting) >= self._parts.limits.waiting:
            oldest = waiting.popleft()
            self._forget(oldest)
            self._drop(now)
        if self._parts.held.take(len(content)):
            self._queue(_Waiting(self._sequence, content, now))
        else:
            self._count("limits.stream_waiting_bytes")
            self._drop(now)

    async def _take_record(self, content: bytes, now: float) -> None:
        # Reading stops meanwhile, and the client's own sending after it.
        while self._waiting and len(self._waiting) >= self._parts.limits.waiting and not self._gone:
            self._count("streams.pauses")
            self._room = self._room or asyncio.Event()
            self._room.clear()
            await self._room.wait()
        while not self._parts.held.take(len(content)):
            self._count("limits.stream_waiting_bytes")
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        self._queue(_Waiting(self._sequence, content, now))

    def _queue(self, waiting: _Waiting) -> None:
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(waiting)
        self._work()

    def _work(self) -> None:
        if self._worker is None:
            self._worker = asyncio.create_task(self._answer_all())
            self._worker.add_done_callback(self._worked)

    def _worked(self, worker: asyncio.Task[None]) -> None:
        self._worker = None
        error = None if worker.cancelled() else worker.exception()
        if error is None and not self._gone:
            if self._waiting or self._dropped:
                self._work()
            return
        self._gone = True
        if self._room is not None:
            self._room.set()
        if error is not None and not isinstance(error, OSError):
            self.has_failed = True
            log.error("stream_defect", extra={"detector": self._manifest.name}, exc_info=error)

    async def _answer_all(self) -> None:
        while self._waiting or self._dropped:
            await self._tell_what_was_dropped()
            batch = (
                [self._waiting.popleft() for _ in range(min(_TOGETHER, len(self._waiting)))] if self._waiting else []
            )
            if self._room is not None:
                self._room.set()
            try:
                answers = await asyncio.gather(*map(self._answer, batch))
            finally:
                for item in batch:
                    self._forget(item)
            for item, answer in zip(batch, answers, strict=True):
                await self._tell(item, answer)

    async def _answer(self, item: _Waiting) -> Verdict | DiscernError:
        if isinstance(item.content, DiscernError):
            return item.content
        manifest = self._manifest
        try:
            return await self._parts.detect(
                DetectionRequest(
                    self.principal,
                    manifest.name,
                    item.content,
                    manifest.version,
                    subject=self.subject,
                    is_live=True,
                    is_sampled=self._is_sampled(item.at),
                )
            )
        except DiscernError as error:
            return error

    def _is_sampled(self, now: float) -> bool:
        """Tell whether an input is to stand for those around it."""
        if now < self._sampled_at + _SAMPLE_SECONDS:
            return False
        self._sampled_at = now
        return True

    async def _tell(self, item: _Waiting, answer: Verdict | DiscernError) -> None:
        if isinstance(answer, DiscernError):
            await self._tell_of(answer, {"sequence": item.sequence})
        else:
            await self._send(_encode({"type": "verdict", "sequence": item.sequence, "verdict": answer}))
        for window in self._closed_by(item, answer):
            verdict = self._of(window)
            try:
                await self._parts.record(LedgerEntry(verdict, self.principal.id, self.subject))
            except DiscernError as error:
                await self._tell_of(error, {"before_sequence": item.sequence})
            else:
                members = {"type": "window", "before_sequence": item.sequence, "verdict": verdict}
                await self._send(_encode(members))

    def _closed_by(self, item: _Waiting, answer: Verdict | DiscernError) -> list[Window]:
        if self._windows is None:
            return []
        if isinstance(answer, Verdict):
            return self._windows.add(answer, item.at)
        # Any other error is of the message or of ours, and says nothing of whom the camera sees.
        return self._windows.add_unknown(item.at) if isinstance(answer, NoFaceFound) else []

    async def _tell_of(self, error: DiscernError, where: dict[str, int]) -> None:
        self._count("streams.errors")
        members = {"type": "error", **where, "error": self._parts.problem_of(error)}
        if error.retry_after is not None:
            members["retry_after"] = error.retry_after
        await self._send(_encode(members))

    def _of(self, window: Window) -> Verdict:
        """Put a window into the words of a verdict."""
        manifest = self._manifest
        assert manifest.stream is not None  # noqa: S101 - there are no windows without it
        labels = {"clear": manifest.classes.negative, "review": None, "flag": manifest.classes.positive}
        seconds, timeline = manifest.stream.window_seconds, window.judged.timeline
        return Verdict(
            id=uuid7_text(),
            workspace=self.principal.workspace,
            detector=manifest.name,
            version=manifest.version,
            decision=window.decision,
            label=labels[window.decision],
            score=window.judged.score,
            thresholds=window.judged.thresholds,
            decided_by=window.judged.decided_by,
            stages=(),
            input=InputFacts("stream", window.sha256, window.bytes, seconds=seconds, frames=window.inputs),
            created_at=utc_now(),
            milliseconds=0.0,
            degraded=window.degraded,
            timeline=None if timeline is None else msgspec.structs.replace(timeline, start=0.0),
            variant=msgspec.UNSET if self._variant is None else self._variant,
        )

    def _drop(self, now: float) -> None:
        self._count("streams.dropped")
        self._dropped += 1
        if now - self._warned_at >= _WARN_SECONDS:
            self._work()

    async def _tell_what_was_dropped(self) -> None:
        """Tell the client to slow down, once a second and before the end."""
        now = asyncio.get_running_loop().time()
        if self._dropped and (now - self._warned_at >= _WARN_SECONDS or not self._waiting):
            self._warned_at = now
            dropped, self._dropped = self._dropped, 0
            await self._send(_encode({"type": "slow_down", "dropped": dropped}))

    def _forget(self, item: _Waiting) -> None:
        if isinstance(item.content, bytes):
            self._parts.held.give_back(len(item.content))
