r"""Matchers of labels, in the words of Prometheus. Pure.

- A pattern is matched against the whole value, and means the same to Prometheus (RE2) and here.
- No pattern takes long, whoever wrote it: there are no groups and no repeats of classes, and what stands between two
  wildcards is looked for once, where it comes first. It has one length, so that no later place could do better.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from discern.alerts.types import Matcher, Operator
from discern.core.errors import MalformedRequest

_WRITTEN = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\\n]|\\.)*)"\s*')
# Letters, digits, what names hold, `.` for any character, `.*` and `.+` for any characters, `|` between alternatives.
_PATTERN = re.compile(r"(?:[\w\-:/@ ]|\\[.+*|\-]|\.[*+]?|\|)*", re.ASCII)
_TOKEN = re.compile(r"\\.|\.[*+]|[^\\]")
_WILDCARD = re.compile(r"(?<!\\)\.[*+]")
_MOST_WILDCARDS = 3
_MOST_CHARACTERS = 200
MOST_MATCHERS = 10


def parsed(text: str) -> Matcher:
    r"""Return a matcher that is written as `name="value"`, with `=`, `!=`, `=~` or `!~`. Raises MalformedRequest."""
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise MalformedRequest(f"{text[:100]!r} is no matcher.", mend='Write it as in Prometheus: severity="critical".')
    label, operator, value = found[1], found[2], re.sub(r"\\(.)", _unescaped, found[3])
    matcher = Matcher(label, _operator(operator), value)
    check(matcher)
    return matcher


def check(matcher: Matcher) -> None:
    """Raise MalformedRequest for a matcher that is too long, or whose pattern is none of ours."""
    if len(matcher.value) > _MOST_CHARACTERS or len(matcher.label) > _MOST_CHARACTERS:
        raise MalformedRequest(f"A matcher has more than {_MOST_CHARACTERS} characters.", mend="Write a shorter one.")
    if matcher.operator in {"=", "!="}:
        return
    if not _PATTERN.fullmatch(matcher.value):
        raise MalformedRequest(
            f"{matcher.value[:100]!r} is not a pattern that is taken here.",
            mend="Use letters, digits, . .* .+ and | between alternatives; no groups, classes or other repeats.",
        )
    if len(_WILDCARD.findall(matcher.value)) > _MOST_WILDCARDS:
        raise MalformedRequest(f"A pattern has more than {_MOST_WILDCARDS} of .* and .+.", mend="Write fewer.")


def parsed_all(texts: Iterable[str]) -> tuple[Matcher, ...]:
    """Return several matchers. Raises MalformedRequest."""
    found = tuple(parsed(text) for text in texts)
    if len(found) > MOST_MATCHERS:
        raise MalformedRequest(f"There are more than {MOST_MATCHERS} matchers.", mend="Write fewer.")
    return found


def matches(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Tell whether all matchers hold; no matcher matches everything."""
    return all(_holds(matcher, labels.get(matcher.label, "")) for matcher in matchers)


def _holds(matcher: Matcher, value: str) -> bool:
    if matcher.operator == "=":
        return value == matcher.value
    if matcher.operator == "!=":
        return value != matcher.value
    found = _compiled(matcher.value).fullmatch(value) is not None
    return found == (matcher.operator == "=~")


@lru_cache(maxsize=1000)
def _compiled(pattern: str) -> re.Pattern[str]:
    alternatives: list[list[str]] = [[""]]
    for part in _TOKEN.findall(pattern):
        if part == "|":
            alternatives.append([""])
        elif part in {".*", ".+"}:
            alternatives[-1][-1] += "." * (part == ".+")
            alternatives[-1].append("")
        else:
            alternatives[-1][-1] += part
    return re.compile("|".join(map(_without_going_back, alternatives)))


def _without_going_back(pieces: list[str]) -> str:
    """Return a pattern of pieces with anything between them that never tries a second place for one but the last."""
    first, *middle = pieces
    last = f".*{middle.pop()}" if middle else ""
    return first + "".join(f"(?>.*?{piece})" for piece in middle) + last


def _unescaped(found: re.Match[str]) -> str:
    # As in a string of Prometheus: what is no escape of a quote or a backslash is the pattern's own.
    return found[1] if found[1] in {'"', "\\"} else found[0]


def _operator(text: str) -> Operator:
    operators: tuple[Operator, ...] = ("=", "!=", "=~", "!~")
    return next(one for one in operators if one == text)
