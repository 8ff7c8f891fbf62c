"""Where a request comes from: an address and an id, known to everything that is done for it.

Threads that are handed work by anyio or asyncio know it too.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple


class Origin(NamedTuple):
    """`address` is that of the peer or, behind a trusted proxy, of its client; the command line's is `local`.

    `workspace` is known once somebody has shown a key. `trace_id` and `span_id` are those of W3C Trace Context, in hex,
    where the request is traced.
    """

    address: str = "local"
    request_id: str = ""
    workspace: str = ""
    trace_id: str = ""
    span_id: str = ""


_origin: ContextVar[Origin] = ContextVar("origin")
_LOCAL = Origin()


def origin() -> Origin:
    """Return where what is done here and now comes from."""
    return _origin.get(_LOCAL)


def set_origin(found: Origin) -> None:
    """Say where what is done from here on, in this task, comes from."""
    _origin.set(found)
