"""What is traced, where traces go, and when it is tried again: decisions alone."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from discern.core.errors import InvalidSettings

MOST_A_SECOND = 20.0
"""Traces a second of a process, of those that callers ask for and of those that are drawn, each."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_OTLP_PATH = "/v1/traces"
# Answers by which an endpoint asks to be tried again (OTLP/HTTP).
_PASSING = frozenset({429, 502, 503, 504})
_FIRST_PAUSE_SECONDS = 1.0
_MOST_PAUSE_SECONDS = 30.0


class Allowance:
    """So many a second, and as many at once: what a bucket of tokens lets pass. For one thread."""

    def __init__(self, a_second: float, now: float) -> None:
        self._a_second = a_second
        self._left = a_second
        self._at = now

    def take(self, now: float) -> bool:
        """Tell whether one more is allowed, and count it. A clock that goes back gives nothing."""
        self._left = min(self._a_second, self._left + max(0.0, now - self._at) * self._a_second)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Endpoint(NamedTuple):
    """Where traces go, and what goes along."""

    url: str
    host: str
    headers: dict[str, str]


def endpoint_of(url: str, headers: str) -> Endpoint:
    """Return the endpoint that the settings name. Raises InvalidSettings, which repeats no header."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or any(character <= " " for character in url):
        raise _wrong_url("is no http or https URL")
    if parts.username is not None or parts.password is not None:
        raise _wrong_url("has a user name or password in it")
    if parts.query or parts.fragment:
        raise _wrong_url("has a query")
    path = parts.path.rstrip("/")
    whole = f"{parts.scheme}://{parts.netloc}{path.removesuffix(_OTLP_PATH)}{_OTLP_PATH}"
    return Endpoint(whole, parts.hostname or "", _headers_of(headers))


def _headers_of(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, part in enumerate(filter(None, (one.strip() for one in text.split(","))), 1):
        name, equals, value = (one.strip() for one in part.partition("="))
        if not equals or not _TOKEN(name) or not value.isascii() or not value.isprintable():
            raise InvalidSettings(
                f"trace_headers: header {number} is not NAME=VALUE.",
                mend="Write Authorization=Basic ..., further ones after a comma.",
                setting="trace_headers",
            )
        found[name] = value
    return found


def _wrong_url(what: str) -> InvalidSettings:
    return InvalidSettings(
        f"trace_url {what}.",
        mend="Write http://host:4318, the base of an OTLP endpoint; a key goes into trace_headers.",
        setting="trace_url",
    )


def is_passing(status: int) -> bool:
    """Tell whether an endpoint that answered so may take the same later."""
    return status in _PASSING


def pause_after(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row: they double, up to half a minute."""
    return float(min(_MOST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10)))
