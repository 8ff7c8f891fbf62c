"""Channels and routes, from what the operator has written in TOML. Pure but for the files that secrets lie in.

- Nothing that is said of a channel tells its URL or its secret.
- Where there are no routes, every alert goes to every channel. The channel `log` is there unless it is switched off.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, get_args

import msgspec

from discern.alerts.rules_table import Amount, Text, amount, converted, matchers, several
from discern.alerts.types import Channel, ChannelKind, Route, Step
from discern.store.outbound import AddressRefused, check_url, networks

SecretReader = Callable[[str], str]
"""Returns what a file holds that is named in the table. Raises OSError or UnicodeDecodeError."""
LOG = "log"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_LABEL = re.compile(r"[a-zA-Z_]\w*", re.ASCII)
_TABLES = ("rules", "inhibitions", "channels", "routes")


class ChannelSpec(msgspec.Struct, forbid_unknown_fields=True):
    """A channel as it is written."""

    kind: str
    url: str = ""
    url_file: str = ""
    secret: str = ""
    secret_file: str = ""
    allow: str = ""
    enabled: bool = True


class StepSpec(msgspec.Struct, forbid_unknown_fields=True):
    """A step of an escalation as it is written."""

    after: Amount
    channels: list[str]


class RouteSpec(msgspec.Struct, forbid_unknown_fields=True):
    """A route as it is written."""

    channels: list[str]
    name: str = ""
    match: list[str] = []
    group_by: list[str] = msgspec.field(default_factory=lambda: ["alertname"])
    interval: Amount = "1m"
    repeat: Amount = "4h"
    resolved: bool = True
    escalate: list[StepSpec] = []


def routes_of(own: Text | None, read: SecretReader) -> tuple[tuple[Channel, ...], tuple[Route, ...]]:
    """Return the channels and the routes of the operator's table. Raises InvalidSettings."""
    tables = {} if own is None else own.parsed()
    if own is not None:
        for name in tables:
            if name not in _TABLES:
                raise own.fault((), name, "there is no such table", f"It has: {', '.join(_TABLES)}.")
    channels = _channels(own, tables.get("channels", {}), read)
    names = [channel.name for channel in channels]
    if own is None or "routes" not in tables:
        return channels, (Route(name="all", channels=tuple(names)),) if names else ()
    found = []
    for path, spec in several(own, "routes", tables, RouteSpec):
        found.append(_route(own, path, spec, names))
    if len({route.name for route in found}) < len(found):
        raise own.fault((), "routes", "two of them have the same name", "Give each its own.")
    return channels, tuple(found)


def _channels(own: Text | None, tables: Any, read: SecretReader) -> tuple[Channel, ...]:  # noqa: ANN401
    log = Channel(name=LOG, kind="log")
    if own is None:
        return (log,)
    if not isinstance(tables, dict):
        raise own.fault((), "channels", "it is no table", "Write [channels.NAME].")
    found = [] if LOG in tables else [log]
    for name, table in tables.items():
        spec = converted(own, ("channels", name), table, ChannelSpec)
        channel = _channel(own, name, spec, read)
        if spec.enabled:
            found.append(channel)
    return tuple(found)


def _channel(own: Text, name: str, spec: ChannelSpec, read: SecretReader) -> Channel:
    path = ("channels", name)
    if not _NAME.fullmatch(name):
        raise own.fault(path, "", "no channel can be called that", "Use small letters, digits and hyphens.")
    kind = next((one for one in get_args(ChannelKind) if one == spec.kind), None)
    if kind is None:
        raise own.fault(path, "kind", f"{spec.kind[:50]!r} is none of {', '.join(get_args(ChannelKind))}")
    url, secret = (_secret(own, path, key, spec, read) for key in ("url", "secret"))
    if bool(url) != (kind != "log") and spec.enabled:
        raise own.fault(path, "url", "it needs a url or a url_file" if not url else "the channel log has none")
    if kind == "webhook" and url:
        try:
            check_url(url)
        except AddressRefused as error:
            what = "it is not an http or https URL without a user name and password"
            raise own.fault(path, "url" if spec.url else "url_file", what) from error
    try:
        networks(spec.allow)
    except ValueError as error:
        raise own.fault(path, "allow", str(error), "Write networks: 10.1.0.0/16, ::1.") from error
    return Channel(name=name, kind=kind, url=url, secret=secret, allow=spec.allow)


def _secret(own: Text, path: tuple[str, ...], key: str, spec: ChannelSpec, read: SecretReader) -> str:
    given, file = getattr(spec, key), getattr(spec, f"{key}_file")
    if given and file:
        raise own.fault(path, key, f"{key} and {key}_file are both there", "Remove one.")
    if not file:
        return str(given)
    try:
        found = read(file).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise own.fault(path, f"{key}_file", f"{file} cannot be read: {reason}", "Name the file.") from error
    if not found:
        raise own.fault(path, f"{key}_file", f"{file} is empty")
    return found


def _route(own: Text, path: tuple[str, ...], spec: RouteSpec, names: list[str]) -> Route:
    steps: list[Step] = []
    for step in spec.escalate:
        _check_channels(own, (path, "escalate"), step.channels, names)
        after = amount(own, path, "escalate", step.after)
        if after < (steps[-1].after if steps else 0.0):
            what = "a step comes before the one ahead of it" if steps else "nothing is before it is told"
            raise own.fault(path, "escalate", f"it is after {after:g} seconds, and {what}", "Write the earliest first.")
        steps.append(Step(after, tuple(step.channels)))
    _check_channels(own, (path, "channels"), spec.channels, names)
    for label in spec.group_by:
        if not _LABEL.fullmatch(label):
            raise own.fault(path, "group_by", f"{label[:50]!r} cannot be the name of a label")
    return Route(
        name=spec.name or f"route-{path[-1]}",
        match=matchers(own, path, "match", spec.match),
        channels=tuple(spec.channels),
        group_by=tuple(spec.group_by),
        interval=_time(own, path, "interval", spec.interval),
        repeat=_time(own, path, "repeat", spec.repeat),
        resolved=spec.resolved,
        escalate=tuple(steps),
    )


def _time(own: Text, path: tuple[str, ...], key: str, value: Amount) -> float:
    seconds = amount(own, path, key, value)
    if seconds < 5:
        raise own.fault(path, key, f"it is {seconds:g} seconds, and must be 5s at least")
    return seconds


def _check_channels(own: Text, place: tuple[tuple[str, ...], str], given: list[str], names: list[str]) -> None:
    for name in given:
        if name not in names:
            mend = f"There are: {', '.join(names) or 'none'}."
            raise own.fault(*place, f"there is no channel {name[:64]!r}", mend)
