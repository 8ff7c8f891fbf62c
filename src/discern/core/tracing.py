"""Where the time of one request goes: a trace of it, if it is one of those that are traced.

- Most requests are not traced, and cost a look at a context variable for each thing that could be noted.
- A trace never changes what is answered, nor whether: noting raises nothing, and of a trace no more than `MOST_PIECES`
  pieces are kept.
- Names and attributes are ours. Of what a caller sends there are in it the ids of W3C Trace Context, and the id of the
  request, a plain word; `tracestate`, which is anybody's text, is neither kept nor passed on.

W3C Trace Context: https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, NamedTuple, Protocol

Attribute = str | int | float | bool
Headers = Iterable[tuple[bytes, bytes]]
Kind = Literal["server", "consumer"]
MOST_PIECES = 256
PARENT_HEADER = "traceparent"
_PARENT = PARENT_HEADER.encode()
_MOST_BYTES = 256
_WELL_FORMED = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?").fullmatch


class Parent(NamedTuple):
    """The span that a trace goes on from, in hex; empty where it begins with us. `sampled`: its caller keeps it."""

    trace_id: str = ""
    span_id: str = ""
    sampled: bool = False


NO_PARENT = Parent()


def parent_of(headers: Headers) -> Parent:
    """Return what the header `traceparent` says; what is malformed, or there more than once, says nothing."""
    given = [value for name, value in headers if name == _PARENT]
    return parsed_parent(given[0]) if len(given) == 1 else NO_PARENT


def parsed_parent(value: bytes) -> Parent:
    """Return what such a header says; of later versions what they have in common with version 00."""
    found = _WELL_FORMED(value) if len(value) <= _MOST_BYTES else None
    if found is None:
        return NO_PARENT
    version, trace_id, span_id, flags, more = found.groups()
    is_void = not int(trace_id, 16) or not int(span_id, 16)
    if version == b"ff" or is_void or (version == b"00" and more is not None):
        return NO_PARENT
    return Parent(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & 1))


class Piece(NamedTuple):
    """One thing that was done for a request, by `perf_counter`. `failed` is the code of the error it ended in."""

    name: str
    started: float
    ended: float
    attributes: Mapping[str, Attribute]
    failed: str = ""


def fresh_id(bits: int) -> str:
    """Return an id at random, in hex, which is not zero."""
    found = random.getrandbits(bits) or 1  # nosec B311
    return f"{found:0{bits // 4}x}"


@dataclass(slots=True)
class Trace:
    """The trace of one request on its way. Any thread may add to it."""

    parent: Parent = NO_PARENT
    kind: Kind = "server"
    trace_id: str = ""
    span_id: str = ""
    started: float = field(default_factory=time.perf_counter)
    attributes: dict[str, Attribute] = field(default_factory=dict)
    pieces: list[Piece] = field(default_factory=list)
    left_out: int = 0
    name: str = ""
    ended: float = 0.0
    failed: str = ""

    @classmethod
    def begun(cls, parent: Parent, kind: Kind = "server") -> Trace:
        """Return a trace that goes on from `parent`, with ids."""
        return cls(parent, kind, parent.trace_id or fresh_id(128), fresh_id(64))

    @property
    def header(self) -> str:
        """What says `traceparent` in a request that is made for this one."""
        return f"00-{self.trace_id}-{self.span_id}-01"

    def add(self, piece: Piece) -> None:
        """Note something that was done."""
        if len(self.pieces) < MOST_PIECES:
            self.pieces.append(piece)
        else:
            self.left_out += 1


class Tracer(Protocol):
    """Decides what is traced, and hands traces on. It raises nothing, and nobody waits for what it hands on."""

    @property
    def is_on(self) -> bool:
        """Whether anything is ever traced."""
        ...

    def sample(self, headers: Headers = ()) -> Parent | None:
        """Decide whether what comes with these headers is traced, and from where its trace goes on; None: it is not.

        For those who have shown a key: what a stranger says of traces counts for nothing.
        """
        ...

    def end(self, trace: Trace) -> None:
        """Hand on a trace that has come to its end, with its `name` and `ended`."""
        ...


class NoTraces:
    """Traces nothing."""

    is_on = False

    def sample(self, headers: Headers = ()) -> Parent | None:  # noqa: ARG002 - the port's
        """Return None."""
        return None

    def end(self, trace: Trace) -> None:
        """Do nothing."""


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def current_trace() -> Trace | None:
    """Return the trace of the request that this is done for; None where it is not traced."""
    return _current.get()


def set_trace(trace: Trace | None) -> None:
    """Say that what is done from here on, in this task, is done for that request."""
    _current.set(trace)


@contextmanager
def done_for(trace: Trace | None) -> Iterator[None]:
    """Have what the block does noted in a trace, and in no other; in none where it is None."""
    token = _current.set(trace)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def traced(tracer: Tracer, parent: Parent, name: str, kind: Kind = "consumer") -> Iterator[Trace]:
    """Trace what the block does, as a trace that goes on from `parent`."""
    trace = Trace.begun(parent, kind)
    trace.name = name
    try:
        with done_for(trace):
            yield trace
    except Exception as error:
        trace.failed = code_of(error)
        raise
    finally:
        trace.ended = time.perf_counter()
        tracer.end(trace)


def code_of(error: BaseException) -> str:
    """Return what an error is called; of its text, which may name what a caller sent, nothing."""
    return str(getattr(error, "code", type(error).__name__))


class _Nothing:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class _Noting:
    __slots__ = ("_attributes", "_name", "_started", "_trace")

    def __init__(self, trace: Trace, name: str, attributes: dict[str, Attribute]) -> None:
        self._trace, self._name, self._attributes = trace, name, attributes

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        failed = "" if error is None else code_of(error)
        self._trace.add(Piece(self._name, self._started, time.perf_counter(), self._attributes, failed))


_NOTHING = _Nothing()


def piece(name: str, **attributes: Attribute) -> _Noting | _Nothing:
    """Return a context that notes what its block does, and how long it takes, where the request is traced."""
    trace = _current.get()
    return _NOTHING if trace is None else _Noting(trace, name, attributes)
