"""The hottest route, answered from the connection itself where nothing stands in the way.

- What is answered here is answered as the route in the framework would: the same key, limits, verdict, ledger and
  problem documents. Whatever needs more than that is not taken: a key that is not remembered or may not, a detector
  that is not loaded, an input that is wrong, a request that is traced.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Container
from functools import partial
from typing import TYPE_CHECKING, Protocol

from discern.core.errors import DiscernError, RateLimited
from discern.http.authentication import principal_at_once
from discern.http.permissions import DETECT, resource_of, standing_headers
from discern.http.problems import defect_response, note_refusal, problem_response
from discern.quotas.service import Quotas

if TYPE_CHECKING:
    from discern.access.types import Principal
    from discern.http.exchange import Exchange
    from discern.http.guards import Guards


Done = Callable[[bytes | BaseException], None]
"""Takes the JSON document that answers, or what went wrong."""


class AtOnce(Protocol):
    """An endpoint that may answer without being waited for."""

    def __call__(self, name: str, principal: Principal, content_type: bytes, body: bytes, done: Done) -> bool:
        """Tell whether `done` has been or will be called; if not, nothing has happened."""
        ...


class DirectRoute:
    """One POST route with one name in its path.

    `is_draining` tells whether the process is about to stop; what has a header of `elsewhere` is left to the framework.
    """

    def __init__(
        self,
        path: str,
        endpoint: AtOnce,
        guards: Guards,
        is_draining: Callable[[], bool],
        *,
        elsewhere: Container[bytes],
    ) -> None:
        before, _, after = path.partition("{name}")
        # What is escaped, and what has a query, is the framework's to read.
        self._matches = re.compile(f"{re.escape(before)}([a-z0-9-]+){re.escape(after)}".encode()).fullmatch
        self._endpoint = endpoint
        self._keys, self._permit, self._limits = guards.keys, guards.permit, guards.limits
        self._quotas, self._tracer = guards.quotas, guards.tracer
        self._route = f"POST {path}"
        self._is_draining = is_draining
        self._elsewhere = elsewhere
        self._subjects = guards.subjects
        self._counts = guards.counts
        self._noting = partial(guards.counts.measures.noting, "discern_http_request_duration_seconds", "POST", path)
        self._note_answer = self._noting("200")

    def name_in(self, method: bytes, url: bytes) -> str | None:
        """Return the name in the path, or None for another request."""
        found = self._matches(url) if method == b"POST" else None
        return None if found is None else found[1].decode()

    def take(self, exchange: Exchange) -> bool:
        """See to it that the exchange is answered; False where the framework has to do it."""
        if self._is_draining():
            return False
        principal = principal_at_once(exchange.headers, self._keys)
        if principal is None or not self._permit.allows(principal, DETECT, resource_of(principal, exchange.name)):
            return False
        content_type = b""
        for name, value in exchange.headers:
            if name == b"content-type":
                content_type = value
            elif name in self._elsewhere:
                return False
        if not self._subjects.may_be_unnamed(principal.workspace) or (self._tracer.is_on and self._is_traced(exchange)):
            return False
        if self._limits.rules and not self._is_within(principal, exchange):
            return exchange.response_complete
        answer = self._answering(exchange, self._quotas, principal.workspace)
        return self._endpoint(exchange.name, principal, content_type, exchange.body, answer)

    def _is_traced(self, exchange: Exchange) -> bool:
        # What was decided here is not decided again in the framework.
        exchange.is_decided, exchange.sampled = True, self._tracer.sample(exchange.headers)
        return exchange.sampled is not None

    def _is_within(self, principal: Principal, exchange: Exchange) -> bool:
        """Tell whether the limits let a request pass; where they refuse it, it is answered."""
        if not self._limits.is_local:
            return False
        try:
            self._limits.hit_here(self._route, exchange.address, None)
            exchange.standing = self._limits.hit_here(self._route, "", principal)
        except RateLimited as refused:
            self._answering(exchange, None, principal.workspace)(refused)
            return False
        exchange.counted = True
        return True

    def _answering(self, exchange: Exchange, quotas: Quotas | None, workspace: str) -> Done:
        def answer(result: bytes | BaseException) -> None:
            exchange.extra = standing_headers(exchange.standing, quotas, workspace)
            if isinstance(result, bytes):
                exchange.answer_json(result)
                self._note_answer(time.perf_counter() - exchange.started)
                return
            if isinstance(result, DiscernError):
                note_refusal(result, self._counts, detector=exchange.name)
                response = problem_response(result)
            else:
                response = defect_response(exchange.name, result)
            exchange.answer(response.status_code, response.raw_headers, bytes(response.body))
            self._noting(str(response.status_code))(time.perf_counter() - exchange.started)

        return answer
