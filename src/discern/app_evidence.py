"""What a compliance report looks at, put together from settings and the parts of an installation."""

from __future__ import annotations

import ipaddress
from functools import partial
from typing import Literal

import discern
from discern.access.service import Keys
from discern.access.service_policies import Policies
from discern.access.service_users import Users
from discern.access.store_factors import FactorStore
from discern.access.types import User
from discern.app_people import second_factor_roles
from discern.audit.service import AuditTrail
from discern.compliance.service import Compliance, Sources
from discern.compliance.types import Installation, Kept
from discern.registry.service import Catalogue
from discern.retention.service import Retention
from discern.retention.types import KINDS
from discern.settings import Settings
from discern.store.objects import SCHEMES

_DAY = 86_400.0
_BOUNDS = (
    *("image_bytes", "image_pixels", "video_bytes", "video_seconds", "record_bytes", "batch_bytes", "job_bytes"),
    *("max_connections", "max_waiting", "waiting_bytes", "max_streams", "max_waiting_jobs", "body_seconds"),
    *("max_streams_per_workspace", "max_waiting_jobs_per_workspace"),
)


def compliance_of(
    settings: Settings,
    keys: Keys,
    users: Users,
    factors: FactorStore,
    audit: AuditTrail,
    catalogue: Catalogue,
    policies: Policies,
    retention: Retention,
) -> Compliance:
    """Return what reports on an installation."""
    return Compliance(
        Sources(
            installation=_installation(settings),
            kept=partial(_kept, settings, retention),
            keys=keys,
            users=users,
            ways_in=partial(_ways_in, factors),
            demands_factor=second_factor_roles(settings),
            audit=audit,
            detectors=catalogue,
            policies=policies.in_force,
        )
    )


def _ways_in(factors: FactorStore, user: User) -> tuple[str, ...]:
    if user.provider is not None:
        return ("provider",)
    found, _ = factors.of(user.id)
    return "password", *sorted({factor.kind for factor in found})


def _kept(settings: Settings, retention: Retention, workspace: str) -> tuple[Kept, ...]:
    keeping = retention.show(workspace)
    days = {kind: keeping.days(kind) for kind in KINDS}
    found = {kind: None if kept is None else kept * _DAY for kind, kept in days.items()}
    # Jobs end by a setting of the installation too.
    found["jobs"] = min(settings.job_keep_seconds, found["jobs"] or settings.job_keep_seconds)
    return (
        *(Kept(kind, seconds) for kind, seconds in found.items()),
        Kept("audit log", None),
        Kept("known answers", settings.cache_seconds),
    )


def _installation(settings: Settings) -> Installation:
    """Return what a compliance report says of the settings: no secrets, no addresses, no paths."""
    return Installation(
        version=discern.__version__,
        database="PostgreSQL" if settings.database_url else "SQLite",
        durability=settings.ledger_durability,
        has_tls=settings.tls_certificate is not None,
        takes_client_certificates=settings.tls_client_ca is not None,
        is_local=_is_local(settings.host),
        trusted_proxies=_count(settings.trusted_proxies),
        cors_origins=_count(settings.cors_origins),
        rate_limits=settings.rate_limits,
        limits={name: getattr(settings, name) for name in _BOUNDS},
        anchors_in=_anchors_in(settings.audit_anchor),
        anchor_seconds=settings.audit_anchor_seconds,
    )


def _anchors_in(anchor: str) -> Literal["home folder", "file", "URL", "object store"]:
    if anchor.startswith(SCHEMES):
        return "object store"
    if anchor.startswith(("http://", "https://")):
        return "URL"
    return "file" if anchor else "home folder"


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _count(listed: str) -> int:
    return sum(bool(part.strip()) for part in listed.split(","))
