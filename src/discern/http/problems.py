"""The one table from errors to HTTP, and the one shape errors have there: RFC 9457 problem documents.

- A more specific class stands before the class it derives from.
- A defect of ours tells the caller nothing but its code; the log has the rest.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from discern.core import errors
from discern.core.counts import Counts

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Problem:
    """How a kind of error looks over HTTP. A private one keeps its details, such as paths, for the log."""

    status: int
    title: str
    private: bool = False


PROBLEMS: dict[type[errors.DiscernError], Problem] = {
    errors.EmptyInput: Problem(400, "The input is empty"),
    errors.MalformedRequest: Problem(400, "The request cannot be understood"),
    errors.Unauthenticated: Problem(401, "A valid API key is needed"),
    errors.WrongPassword: Problem(401, "The name or the password is wrong"),
    errors.WrongFactor: Problem(401, "The second factor is not right"),
    errors.SecondFactorNeeded: Problem(403, "A second factor must be enrolled first"),
    errors.FreshProofNeeded: Problem(403, "A fresh proof of who asks is needed"),
    errors.UnknownFactor: Problem(404, "No such second factor"),
    errors.SignInRefused: Problem(403, "The sign-in is refused"),
    errors.UnknownProvider: Problem(404, "No such identity provider"),
    errors.MissingCsrfToken: Problem(403, "The request does not prove where it comes from"),
    errors.ConsentMissing: Problem(403, "The subject has not consented"),
    errors.UnknownSubject: Problem(404, "No such subject"),
    errors.UnknownUser: Problem(404, "No such user"),
    errors.UnknownSession: Problem(404, "No such session"),
    errors.Forbidden: Problem(403, "That is not permitted"),
    errors.SlowSender: Problem(408, "The input came too slowly"),
    errors.UnknownDetector: Problem(404, "No such detector"),
    errors.UnknownVerdict: Problem(404, "No such verdict"),
    errors.DatasetRefused: Problem(422, "The dataset is not what it must be"),
    errors.UnknownRun: Problem(404, "No such run"),
    errors.UnknownKey: Problem(404, "No such key"),
    errors.UnknownAlert: Problem(404, "No such alert"),
    errors.UnknownSilence: Problem(404, "No such silence"),
    errors.UnknownChannel: Problem(404, "No such channel"),
    errors.UnknownWorkspace: Problem(404, "No such workspace"),
    errors.UnknownJob: Problem(404, "No such job"),
    errors.NoSuchStream: Problem(404, "No such stream"),
    errors.NoResultYet: Problem(409, "The job has no result"),
    errors.InputTooLarge: Problem(413, "The input is over a limit"),
    errors.UnsupportedInput: Problem(415, "The input is of a type that is not taken"),
    errors.UnreadableInput: Problem(422, "The input cannot be decoded"),
    errors.NoFaceFound: Problem(422, "No face was found"),
    errors.InvalidRecord: Problem(422, "The record does not fit the detector's fields"),
    errors.RateLimited: Problem(429, "Too many requests"),
    errors.QuotaExceeded: Problem(429, "The month's quota is used up"),
    errors.CallerError: Problem(400, "The request cannot be answered"),
    errors.BundleUntrusted: Problem(503, "The detector's signature does not hold"),
    errors.BundleRefused: Problem(503, "The detector cannot be used"),
    errors.DetectorFailed: Problem(503, "The detector failed"),
    errors.ObjectsUnavailable: Problem(503, "The object store or the master key did not answer", private=True),
    errors.ObjectRefused: Problem(500, "A kept object cannot be read"),
    errors.StorageUnavailable: Problem(503, "The database did not answer", private=True),
    errors.FactorUnavailable: Problem(503, "This kind of second factor cannot be used"),
    errors.SubjectsUnavailable: Problem(503, "No subject can be named here"),
    errors.ProviderUnavailable: Problem(503, "The identity provider did not answer"),
    errors.MissingExtra: Problem(501, "An optional part is not installed"),
    errors.Overloaded: Problem(503, "Too much is waiting"),
    errors.InvalidSettings: Problem(500, "The installation is misconfigured", private=True),
    errors.OperatorError: Problem(500, "The installation is misconfigured", private=True),
    errors.InternalError: Problem(500, "A defect of ours", private=True),
    errors.DiscernError: Problem(500, "A defect of ours", private=True),
}
FRAMEWORK_PROBLEMS: dict[str, Problem] = {
    "not_found": Problem(404, "No such path"),
    "method_not_allowed": Problem(405, "The path does not take this method"),
    "invalid_parameter": Problem(422, "A parameter is wrong"),
}
_FRAMEWORK_CODES = {row.status: code for code, row in FRAMEWORK_PROBLEMS.items()}


def problem_of(error: errors.DiscernError) -> Problem:
    """Return the row of the table for an error."""
    return PROBLEMS[next(kind for kind in type(error).__mro__ if kind in PROBLEMS)]


def problem_response(error: errors.DiscernError) -> Response:
    """Return the problem document for an error."""
    row = problem_of(error)
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    if isinstance(error, errors.QuotaExceeded):
        headers |= _standing_of(error)
    if row.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="discern"'
    return Response(msgspec.json.encode(problem_members(error)), row.status, headers, MEDIA_TYPE)


def _standing_of(error: errors.QuotaExceeded) -> dict[str, str]:
    """Return the headers that tell how whoever was refused stands with their quota."""
    allowed, used = int(str(error.facts["allowed"])), int(str(error.facts["used"]))
    standing = {"Limit": allowed, "Remaining": max(0, allowed - used), "Reset": max(1, round(error.retry_after or 1))}
    return {f"RateLimit-{name}": str(value) for name, value in standing.items()}


def problem_members(error: errors.DiscernError) -> dict[str, Any]:
    """Return the members of the problem document for an error, which may be one of many in an answer."""
    row = problem_of(error)
    if row.private:
        return _members(row.status, error.code, row.title, f"{row.title}; the server's log has the reason.")
    return _members(row.status, error.code, row.title, error.detail, mend=error.mend, **error.facts)


# Counted where they are met, for there they are met by what is no request too.
_COUNTED_THERE = {"max_streams", "max_streams_per_workspace", "max_waiting_rows", "rate_limits"}


def note_refusal(error: errors.DiscernError, counts: Counts, **where: str) -> None:
    """Log that a request is refused, and count the limit that it met."""
    level = logging.INFO if isinstance(error, errors.CallerError) else logging.ERROR
    log.log(level, "request_refused", extra={**where, **_told_in_the_log(error)})
    limit = error.facts.get("limit")
    if limit is not None and limit not in _COUNTED_THERE:
        counts.add(f"limits.{limit}")


def _told_in_the_log(error: errors.DiscernError) -> dict[str, str]:
    """Return what the log says of an error: of a caller's nothing that they have sent, for that may be personal."""
    limit = error.facts.get("limit")
    if isinstance(error, errors.CallerError):
        return {"code": error.code} | ({"limit": str(limit)} if limit is not None else {})
    return {"code": error.code, "detail": str(error)}


_NOT_LET_IN: dict[type[Exception], str] = {
    errors.WrongPassword: "password",
    errors.WrongFactor: "second_factor",
    errors.SignInRefused: "identity_provider",
}


def install_problem_handlers(app: FastAPI, counts: Counts) -> None:
    """Make every error of `app`, the framework's own included, a problem document."""

    async def answer_ours(request: Request, error: Exception) -> Response:
        reason = _NOT_LET_IN.get(type(error))
        if reason is not None:
            counts.add(f"authentication.{reason}")
        assert isinstance(error, errors.DiscernError)  # noqa: S101 - by registration
        note_refusal(error, counts, path=request.url.path)
        return problem_response(error)

    app.add_exception_handler(errors.DiscernError, answer_ours)
    app.add_exception_handler(HTTPException, _answer_framework)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(Exception, answer_defect)


async def _answer_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - by registration
    code = _FRAMEWORK_CODES.get(error.status_code, "malformed_request")
    title = FRAMEWORK_PROBLEMS[code].title if code in FRAMEWORK_PROBLEMS else str(error.detail)
    detail = f"{request.method} {request.url.path[:200]}: {error.detail}."
    mend = "The routes are listed at /docs." if code in FRAMEWORK_PROBLEMS else None
    return _document(error.status_code, code, title, detail, dict(error.headers or {}), mend=mend)


async def _answer_validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - by registration
    faults = [f"{'.'.join(str(part) for part in fault['loc'][1:])}: {fault['msg']}" for fault in error.errors()]
    row = FRAMEWORK_PROBLEMS["invalid_parameter"]
    detail = f"The request's parameters are wrong: {'; '.join(faults)}."
    mend = "The parameters are described at /docs."
    return _document(row.status, "invalid_parameter", row.title, detail, {}, mend=mend, faults=faults)


def method_not_allowed(scope: Scope, allowed: str) -> Response:
    """Return the problem document for a method that a path does not take."""
    row = FRAMEWORK_PROBLEMS["method_not_allowed"]
    detail = f"{scope['method']} {scope['path'][:200]}: the path takes {allowed}."
    mend = "The routes are listed at /docs."
    return _document(row.status, "method_not_allowed", row.title, detail, {"Allow": allowed}, mend=mend)


def no_such_path(scope: Scope) -> Response:
    """Return the problem document for a path that is no route's."""
    row = FRAMEWORK_PROBLEMS["not_found"]
    detail = f"{scope['method']} {scope['path'][:200]}: Not Found."
    return _document(row.status, "not_found", row.title, detail, {}, mend="The routes are listed at /docs.")


async def answer_defect(request: Request, error: Exception) -> Response:
    """Return the problem document for a defect of ours, which is logged."""
    return defect_response(request.url.path, error)


def defect_response(where: str, error: BaseException) -> Response:
    """Do the same where no framework stands around."""
    log.error("defect", extra={"path": where}, exc_info=error)
    detail = "Something went wrong that should not have; it is in the server's log."
    return _document(500, errors.InternalError.code, "A defect of ours", detail, {})


def _document(status: int, code: str, title: str, detail: str, headers: dict[str, str], **more: Any) -> Response:  # noqa: ANN401
    return Response(msgspec.json.encode(_members(status, code, title, detail, **more)), status, headers, MEDIA_TYPE)


def _members(status: int, code: str, title: str, detail: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    members = {"type": f"urn:discern:error:{code}", "title": title, "status": status, "code": code, "detail": detail}
    return members | {key: value for key, value in more.items() if value is not None}
