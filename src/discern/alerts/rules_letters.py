"""The words of a notice: a title, a text, and the body of Alertmanager's webhook. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from discern.alerts.rules_states import fingerprint
from discern.alerts.types import Notice, ShownAlert

_NEVER = "0001-01-01T00:00:00Z"
_REASONS = {
    "fired": "",
    "repeated": "Still so, and nobody has acknowledged it.",
    "escalated": "Nobody has acknowledged it.",
    "resolved": "",
    "test": "This is a test: nothing is wrong.",
}


def title(notice: Notice) -> str:
    """Return one line that says what it is about."""
    if notice.reason == "test":
        return "[TEST] Discern"
    state = f"FIRING:{notice.firing}" if notice.firing else "RESOLVED"
    first = notice.shown[0]
    others = notice.firing + notice.ended - 1
    more = f" (and {others} more)" if others else ""
    escalated = "ESCALATED " if notice.reason == "escalated" else ""
    return f"[{escalated}{state}] {first.severity}: {first.summary}{more}"


def text(notice: Notice, address: str = "") -> str:
    """Return the whole of it in plain text. `address` is where the installation is reached, if that is known."""
    parts = [_REASONS[notice.reason]] if _REASONS[notice.reason] else []
    parts += [_paragraph(alert) for alert in notice.shown]
    left_out = notice.firing + notice.ended - len(notice.shown)
    if left_out:
        parts.append(f"{left_out} more are not shown; `discern alert list` and GET /v1/alerts list them.")
    if address:
        parts.append(f"Discern: {address}")
    return "\n\n".join(parts)


def alertmanager_body(notice: Notice, receiver: str, address: str = "") -> dict[str, Any]:
    """Return the body of a webhook as Alertmanager sends it, version 4 of its format."""
    alerts = [_alertmanager_alert(alert, address) for alert in notice.shown]
    labels, annotations = ([alert[name] for alert in alerts] for name in ("labels", "annotations"))
    return {
        "version": "4",
        "groupKey": notice.group,
        "truncatedAlerts": max(0, notice.firing + notice.ended - len(alerts)),
        "status": "firing" if notice.firing else "resolved",
        "receiver": receiver,
        "groupLabels": notice.group_labels,
        "commonLabels": _common(labels),
        "commonAnnotations": _common(annotations),
        "externalURL": address,
        "alerts": alerts,
    }


def _alertmanager_alert(alert: ShownAlert, address: str) -> dict[str, Any]:
    annotations = {"summary": alert.summary, "description": alert.description}
    return {
        "status": "firing" if alert.firing else "resolved",
        "labels": alert.labels,
        "annotations": annotations | ({"runbook_url": alert.runbook} if alert.runbook else {}),
        "startsAt": _written(alert.began_at),
        "endsAt": _NEVER if alert.resolved_at is None else _written(alert.resolved_at),
        "generatorURL": f"{address}/v1/alerts/{alert.id}" if address else "",
        "fingerprint": alert.fingerprint or fingerprint(alert.labels),
    }


def _paragraph(alert: ShownAlert) -> str:
    state = alert.severity.upper() if alert.firing else "RESOLVED"
    until = "" if alert.resolved_at is None else f" until {_written(alert.resolved_at)}"
    lines = [f"{state} {alert.summary}", alert.description, f"Since {_written(alert.began_at)}{until}."]
    lines.append(", ".join(f"{name}={value}" for name, value in sorted(alert.labels.items())))
    if alert.runbook:
        lines.append(f"What to do: {alert.runbook}")
    return "\n".join(line for line in lines if line)


def _common(tables: Sequence[dict[str, str]]) -> dict[str, str]:
    if not tables:
        return {}
    return {name: value for name, value in tables[0].items() if all(one.get(name) == value for one in tables)}


def _written(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
