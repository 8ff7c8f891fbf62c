"""The channels: apprise, a signed webhook, the log.

- What a channel says of a failure holds nothing of its URL or its secret.
- Hosts are called only where they are public, or the operator allows their network. The webhook is held to that when
  it connects. Of what apprise calls, the host in the URL is looked up and checked before: a name that means something
  else a moment later is not noticed, and so channels are the operator's to name alone.
- What apprise and its libraries would log is not logged: it may hold tokens.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec

from discern.alerts.ports import Sender, Sent
from discern.alerts.rules_letters import alertmanager_body, text, title
from discern.alerts.types import Channel, Notice
from discern.core.errors import CallerError
from discern.core.signatures import SIGNATURE_HEADER, signature
from discern.store.outbound import AddressRefused, Network, Outbound, networks
from discern.store.secret_files import SecretFile

log = logging.getLogger(__name__)
DELIVERY_HEADER = "Discern-Delivery"
_STATUS = re.compile(r"\berror=(\d{3})\b")
_LEAST_SECRET = 4
_encode = msgspec.json.Encoder().encode
# What plugins of apprise raise that they do not catch themselves; its text may hold what is secret.
_DEFECTS = (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError, AssertionError)


def sender_of(channel: Channel, allowed: tuple[Network, ...], secret: SecretFile, address: str) -> Sender:
    """Return what sends by a channel.

    `allowed` networks are called although they are private, besides those of the channel; `secret` signs webhooks that
    have none of their own; `address` is where the installation is reached.
    """
    if channel.kind == "log":
        return LogSender()
    out = Outbound((*allowed, *networks(channel.allow)))
    if channel.kind == "webhook":
        return WebhookSender(channel, out, lambda: channel.secret or secret.get(), address)
    return AppriseSender(channel, out, address)


class LogSender:
    """Writes notices to the log of the process."""

    def send(self, notice: Notice, key: str) -> Sent:
        """Write one line."""
        is_bad = notice.firing and notice.shown and notice.shown[0].severity != "info"
        level = logging.WARNING if is_bad else logging.INFO
        names = sorted({alert.name for alert in notice.shown})
        facts = {"title": title(notice), "firing": notice.firing, "ended": notice.ended, "alerts": names, "key": key}
        log.log(level, "alert_notice", extra=facts)
        return Sent()


class WebhookSender:
    """Posts the JSON of Alertmanager's webhook, signed as all webhooks of Discern are."""

    def __init__(self, channel: Channel, out: Outbound, secret: Callable[[], str], address: str) -> None:
        self._channel = channel
        self._out = out
        self._secret = secret
        self._address = address

    def send(self, notice: Notice, key: str) -> Sent:
        """Post it, with `key` in the header `Discern-Delivery`."""
        body = _encode(alertmanager_body(notice, self._channel.name, self._address))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Discern",
            DELIVERY_HEADER: key,
            SIGNATURE_HEADER: signature(self._secret(), body, int(time.time())),
        }
        try:
            status = self._out.post(self._channel.url, body, headers)
        except CallerError as refused:
            return Sent(scrubbed(f"{refused.detail} Allow its network by `allow`.", self._channel), refused=True)
        except OSError as error:
            return Sent(scrubbed(f"{type(error).__name__}: {error}", self._channel))
        return Sent(None if 200 <= status < 300 else f"it answered {status}", status)


class AppriseSender:
    """Sends by apprise: e-mail, Slack, PagerDuty and whatever else it knows a URL for."""

    def __init__(self, channel: Channel, out: Outbound, address: str) -> None:
        self._channel = channel
        self._out = out
        self._address = address

    def send(self, notice: Notice, key: str) -> Sent:  # noqa: ARG002 - apprise has no place for it
        """Send title and text."""
        try:
            import apprise  # noqa: PLC0415 - it takes most of a second
        except ImportError:
            return Sent("apprise is not installed: the extra `server` has it", refused=True)
        _hush()
        try:
            plugin = apprise.Apprise.instantiate(
                _addressed(self._channel.url, notice),
                asset=apprise.AppriseAsset(
                    app_id="Discern", app_desc="Discern", async_mode=False, http_redirects=False
                ),
                suppress_exceptions=True,
            )
            if plugin is None:
                return Sent("its url is none that apprise knows", refused=True)
            self._check(plugin)
            sending = apprise.Apprise()
            sending.add(plugin)
            result: Any = sending.notify(
                body=text(notice, self._address),
                title=title(notice),
                notify_type=_notify_type(notice),
                body_format="text",
                log_level=logging.WARNING,
            )
        except AddressRefused as refused:
            return Sent(scrubbed(f"{refused.detail} Allow its network by `allow`.", self._channel), refused=True)
        except _DEFECTS as error:
            return Sent(f"apprise failed with {type(error).__name__}")
        return Sent() if result else _failure(result)

    def _check(self, plugin: Any) -> None:  # noqa: ANN401 - apprise has a class for each
        """Raise AddressRefused where a host that the URL names is not to be called."""
        has_host = any("{host}" in template for template in plugin.templates)
        hosts = [getattr(plugin, "smtp_host", None) or (plugin.host if has_host else None)]
        for host in (str(one) for one in hosts if one):
            self._out.check_host(host)


def scrubbed(said: str, channel: Channel) -> str:
    """Return what is said of a failure without anything of the channel's URL but its host, or of its secret."""
    parts = urlsplit(channel.url)
    secrets = {channel.url, channel.secret, parts.path, parts.query, parts.username or "", parts.password or ""}
    secrets |= {*re.split(r"[/&=?]", parts.path + "&" + parts.query)}
    for secret in sorted({*secrets, *map(unquote, secrets)}, key=len, reverse=True):
        if len(secret) >= _LEAST_SECRET:
            said = said.replace(secret, "***")
    return said[:500]


def _addressed(url: str, notice: Notice) -> str:
    """Return the URL; PagerDuty is told which incident it is about, so that the end of an alert closes it."""
    if not url.lower().startswith("pagerduty:") or "dedup=" in url or "action=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}dedup={quote(notice.group, safe='')}&action=map"


def _notify_type(notice: Notice) -> str:
    if not notice.firing:
        return "info" if notice.reason == "test" else "success"
    severity = notice.shown[0].severity
    return {"critical": "failure", "warning": "warning", "info": "info"}[severity]


def _failure(result: Any) -> Sent:  # noqa: ANN401
    """Return why apprise could not send, of what it says no more than the status of an answer."""
    for entry in result.logs():
        found = _STATUS.search(entry.message)
        if found:
            return Sent(f"it answered {found[1]}", int(found[1]))
        if "onnection error" in entry.message:
            return Sent("there was no connection, or it was broken off")
    return Sent("apprise could not send it")


def _hush() -> None:
    """Have the libraries log nowhere. What apprise warns of is still looked at for the status of an answer."""
    for name, level in (("apprise", logging.WARNING), ("urllib3", logging.CRITICAL), ("requests", logging.CRITICAL)):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.setLevel(level)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())


Senders = Mapping[str, Sender]
