"""Alerts, put together from settings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from discern.alerts.service_running import Alerts, AlertSettings
from discern.app_storage import webhook_secret
from discern.audit.service import AuditTrail
from discern.core.breakers import Breakers
from discern.core.errors import InvalidSettings
from discern.monitoring.ports import Happenings
from discern.monitoring.types import Metric
from discern.settings import Settings
from discern.store.database import Database
from discern.store.outbound import networks


def alerts_of(
    settings: Settings,
    database: Database,
    audit: AuditTrail,
    metrics: Sequence[Metric],
    happenings: Happenings,
    breakers: Breakers,
) -> Alerts:
    """Return the alerts of an installation; alerts.toml is not read yet. Raises InvalidSettings."""
    try:
        allowed = networks(settings.webhook_allow)
    except ValueError as error:
        detail = f"webhook_allow: {error}."
        raise InvalidSettings(detail, mend="Write networks with commas.", setting="webhook_allow") from error
    said = AlertSettings(
        file=settings.alert_rules or settings.home / "alerts.toml",
        home=settings.home,
        seconds=settings.alert_seconds,
        keep=timedelta(days=settings.alert_keep_days),
        give_up=timedelta(seconds=settings.alert_give_up_seconds),
        allowed=allowed,
        secret=webhook_secret(settings),
        address=settings.public_url.rstrip("/"),
    )
    return Alerts(said, database, audit, metrics, happenings, breakers)
