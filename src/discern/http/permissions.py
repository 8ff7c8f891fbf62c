"""What each route needs: the one table from routes to actions, and the gate that holds it.

- A route that does not stand in the table stops the start, and what is no route of the table is answered here: nothing
  is let through by being forgotten.
- The gate knows the workspace and, where the path names one, the detector. What belongs to a single verdict or job is
  judged again by its route, once it is known which detector it came from.
- Whoever must enrol a second factor first gets to the routes of `WHILE_ENROLLING` alone.
- A denial is on record before it is answered.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from urllib.parse import parse_qsl

from anyio import to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from discern.access.ports import Permit
from discern.access.service_limits import RateLimits, Standing
from discern.access.types import Action, Principal, Resource
from discern.core.errors import DiscernError, InternalError, MalformedRequest
from discern.http.authentication import is_open, principal_of, refuse, was_counted
from discern.http.problems import method_not_allowed, no_such_path
from discern.privacy.ports import SUBJECT_HEADER, Subjects
from discern.quotas.service import Quotas

DETECT: Action = "detect"
NEEDS: dict[str, Action | None] = {
    "GET /v1/whoami": None,
    "POST /v1/tokens": None,
    "GET /v1/session": None,
    "DELETE /v1/session": None,
    "GET /v1/sessions": None,
    "DELETE /v1/sessions/{session_id}": None,
    "POST /v1/password": None,
    "POST /v1/session/challenge": None,
    "POST /v1/session/proof": None,
    "GET /v1/factors": None,
    "POST /v1/factors": None,
    "POST /v1/factors/{factor_id}/confirm": None,
    "PATCH /v1/factors/{factor_id}": None,
    "DELETE /v1/factors/{factor_id}": None,
    "POST /v1/recovery-codes": None,
    "DELETE /v1/users/{user_id}/factors": "users.change",
    "GET /v1/users": "users.read",
    "POST /v1/users": "users.create",
    "PATCH /v1/users/{user_id}": "users.change",
    "POST /v1/detectors/{name}/verdicts": "detect",
    "POST /v1/detectors/{name}/verdicts:batch": "detect",
    "POST /v1/detectors/{name}/jobs": "detect",
    "GET /v1/detectors": "detectors.read",
    "GET /v1/detectors/{name}": "detectors.read",
    "GET /v1/detectors/{name}/{version}": "detectors.read",
    "GET /v1/verdicts": "verdicts.read",
    "GET /v1/verdicts/{verdict_id}": "verdicts.read",
    "POST /v1/verdicts/{verdict_id}/label": "verdicts.label",
    "GET /v1/verdicts/{verdict_id}/labels": "verdicts.read",
    "POST /v1/labels": "verdicts.label",
    "GET /v1/labels/wanted": "verdicts.read",
    "GET /v1/quality": "quality.read",
    "GET /v1/jobs": "jobs.read",
    "GET /v1/jobs/{job_id}": "jobs.read",
    "GET /v1/jobs/{job_id}/events": "jobs.read",
    "GET /v1/jobs/{job_id}/result": "jobs.read",
    "POST /v1/jobs/{job_id}/cancel": "jobs.cancel",
    "GET /v1/health": "health.read",
    "GET /metrics": "metrics.read",
    "GET /v1/statistics": "statistics.read",
    "GET /v1/keys": "keys.read",
    "POST /v1/keys": "keys.create",
    "POST /v1/keys/{key_id}/rotate": "keys.rotate",
    "DELETE /v1/keys/{key_id}": "keys.revoke",
    "GET /v1/audit": "audit.read",
    "GET /v1/privacy": "privacy.read",
    "PUT /v1/privacy": "privacy.change",
    "POST /v1/privacy/consents": "privacy.consent",
    "POST /v1/privacy/export": "privacy.export",
    "POST /v1/privacy/erase": "privacy.erase",
    "GET /v1/usage": "usage.read",
    "GET /v1/analytics": "analytics.read",
    "GET /v1/reports": "analytics.read",
    "GET /v1/budget": "analytics.read",
    "PUT /v1/budget": "budgets.change",
    "GET /v1/alerts": "alerts.read",
    "POST /v1/alerts/test": "alerts.change",
    "GET /v1/alerts/{alert_id}": "alerts.read",
    "POST /v1/alerts/{alert_id}/acknowledge": "alerts.change",
    "GET /v1/silences": "alerts.read",
    "POST /v1/silences": "alerts.change",
    "GET /v1/silences/{silence_id}": "alerts.read",
    "PATCH /v1/silences/{silence_id}": "alerts.change",
    "DELETE /v1/silences/{silence_id}": "alerts.change",
    "GET /v1/drift": "drift.read",
    "GET /v1/retention": "retention.read",
    "PATCH /v1/retention": "retention.change",
    "GET /v1/compliance/report": "compliance.read",
    "GET /v2": "detectors.read",
    "POST /v2/repository/index": "detectors.read",
    "GET /v2/models/{name}": "detectors.read",
    "GET /v2/models/{name}/ready": "detectors.read",
    "GET /v2/models/{name}/versions/{version}": "detectors.read",
    "GET /v2/models/{name}/versions/{version}/ready": "detectors.read",
    "POST /v2/models/{name}/infer": "detect",
    "POST /v2/models/{name}/versions/{version}/infer": "detect",
}
"""The action that each route needs; None where any principal may ask. Streams need `DETECT`."""
WHILE_ENROLLING = frozenset(
    {
        "GET /v1/session",
        "DELETE /v1/session",
        "POST /v1/session/proof",
        "GET /v1/factors",
        "POST /v1/factors",
        "POST /v1/factors/{factor_id}/confirm",
    }
)
"""What is open to whoever must enrol a second factor first."""


def pattern_of(path: str) -> re.Pattern[str]:
    """Return what matches the paths of a template such as `/v1/jobs/{job_id}`, its names as groups."""
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))


def resource_of(principal: Principal, name: str | None) -> Resource:
    """Return what a route is about: the detector in its path, else the workspace."""
    if name is None:
        return Resource("Workspace", principal.workspace, principal.workspace)
    return Resource("Detector", name, principal.workspace, name)


NEED_A_FRESH_PROOF = frozenset(
    {
        "POST /v1/keys",
        "POST /v1/keys/{key_id}/rotate",
        "POST /v1/users",
        "PATCH /v1/users/{user_id}",
        "DELETE /v1/users/{user_id}/factors",
        "POST /v1/password",
        "DELETE /v1/sessions/{session_id}",
    }
)
"""By these somebody with a session that is not theirs could stay, or lock others out: they need more than it."""


async def check(permit: Permit, principal: Principal, route: str, action: Action | None, name: str | None) -> None:
    """Raise Forbidden or SecondFactorNeeded, which is on record then, unless it is permitted."""
    if principal.enrolling and route not in WHILE_ENROLLING:
        await to_thread.run_sync(permit.check_enrolled, principal, route)
    if action is not None:
        resource = resource_of(principal, name)
        if not permit.allows(principal, action, resource):
            # Putting it on record takes the database.
            await to_thread.run_sync(permit.check, principal, action, resource)
    if route in NEED_A_FRESH_PROOF and principal.id.startswith("user:"):
        await to_thread.run_sync(permit.check_fresh, principal, route)


async def admit(subjects: Subjects, scope: Scope) -> None:
    """Put the subject that a question names into the state of its scope.

    Raises MalformedRequest, and ConsentMissing where the workspace asks for consent.
    """
    given = [value for name, value in scope["headers"] if name == SUBJECT_HEADER]
    workspace = principal_of(scope).workspace
    if not given and subjects.may_be_unnamed(workspace):
        return
    if len(given) > 1:
        raise MalformedRequest("The header Discern-Subject is there more than once.", mend="Send one.")
    try:
        name = given[0].decode() if given else None
    except UnicodeDecodeError as error:
        raise MalformedRequest("The header Discern-Subject is not UTF-8.", mend="Send it in UTF-8.") from error
    scope["state"]["subject"] = await to_thread.run_sync(subjects.admit, workspace, name)


def check_query(scope: Scope, known: Collection[str]) -> None:
    """Raise MalformedRequest for a parameter that the route does not have, or that is there twice.

    A typing error must not mean the default, nor a second value another thing to whoever looked before.
    """
    if not scope["query_string"]:
        return
    given = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    unknown = [name for name, _ in given if name not in known]
    if unknown:
        mend = f"It has: {', '.join(sorted(known))}." if known else "It has none."
        raise MalformedRequest(f"The route has no parameter {unknown[0][:100]!r}.", mend=mend)
    names = [name for name, _ in given]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise MalformedRequest(f"The parameter {twice} is there more than once.", mend="Give it once.")


async def count(limits: RateLimits, scope: Scope, route: str, send: Send, quotas: Quotas | None = None) -> Send:
    """Count a request of whoever asks; return a `send` that tells how they stand. Raises RateLimited.

    `quotas` are given where the answer may take something out of one.
    """
    standing: Standing | None = None
    if was_counted(scope):
        standing = scope["state"]["counted"]
    elif limits.rules:
        standing = await limits.hit(route, "", principal_of(scope))
    if standing is None and quotas is None:
        return send
    return _telling(send, standing, quotas, principal_of(scope).workspace)


def standing_headers(standing: Standing | None, quotas: Quotas | None, workspace: str) -> list[tuple[bytes, bytes]]:
    """Return the headers that tell how somebody stands with the nearest limit, be it of requests or a quota."""
    there = [standing, None if quotas is None else quotas.standing(workspace)]
    found = [Standing(*one) for one in there if one is not None]
    if not found:
        return []
    standing = min(found, key=lambda one: one.remaining / max(1, one.amount))
    return [
        (b"ratelimit-limit", b"%d" % standing.amount),
        (b"ratelimit-remaining", b"%d" % standing.remaining),
        (b"ratelimit-reset", b"%d" % standing.reset),
    ]


def _telling(send: Send, standing: Standing | None, quotas: Quotas | None, workspace: str) -> Send:
    async def send_with_standing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *standing_headers(standing, quotas, workspace)]
        await send(message)

    return send_with_standing


class Permissions:
    """ASGI middleware behind Authentication.

    `routes` are all there are, as `METHOD /path/{name}`, each with the names of its query parameters.
    """

    def __init__(self, app: ASGIApp, permit: Permit, limits: RateLimits, routes: Mapping[str, Collection[str]]) -> None:
        self._app = app
        self._limits = limits
        self._permit = permit
        needed = [(route, *route.split(" ", 1)) for route in routes]
        closed = [(route, method, path) for route, method, path in needed if not is_open(path)]
        forgotten = [route for route, _, _ in closed if route not in NEEDS]
        if forgotten:
            raise InternalError(f"The table NEEDS says nothing of {', '.join(forgotten)}.")
        self._rules = [
            (route, method, pattern_of(path).fullmatch, NEEDS[route], routes[route]) for route, method, path in closed
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 unless whoever asks may, and 404 or 405 to what is no route."""
        if scope["type"] != "http" or is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        others = []
        for route, of, matches, action, parameters in self._rules:
            found = matches(scope["path"])
            if found is None:
                continue
            if of != scope["method"]:
                others.append(of)
                continue
            try:
                # What is refused is counted too, or refusals would be free to ask for.
                telling = await count(self._limits, scope, route, send)
                await check(self._permit, principal_of(scope), route, action, found.groupdict().get("name"))
                check_query(scope, parameters)
            except DiscernError as error:
                scope["refused_route"] = route.partition(" ")[2]
                await refuse(error, scope, receive, send)
                return
            await self._app(scope, receive, telling)
            return
        try:
            await count(self._limits, scope, "", send)
        except DiscernError as error:
            await refuse(error, scope, receive, send)
            return
        answer = method_not_allowed(scope, ", ".join(others)) if others else no_such_path(scope)
        await answer(scope, receive, send)
