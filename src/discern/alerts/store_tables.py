"""The tables of alerts.

- What is for the whole installation, such as notices, is of the first workspace.
- Who evaluates a machine writes the states of its alerts, who leads writes how they were told: each has columns of its
  own, so that neither takes back what the other wrote.
- Of one rule and one set of labels one alert is open at a time: `open_as` is unique, and NULL once it is over.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    Uuid,
)

from discern.store.metadata import metadata, workspace_column
from discern.store.types import UtcDateTime

alerts = Table(
    "alerts",
    metadata,
    Column("id", Uuid(), primary_key=True),
    workspace_column(),
    Column("everywhere", Boolean(), nullable=False),
    Column("rule", String(64), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("open_as", String(100), unique=True),
    Column("machine", String(64), nullable=False),
    Column("is_done", Boolean(), nullable=False),
    Column("levels", Integer(), nullable=False),
    Column("told_at", UtcDateTime),
    Column("end_told", Boolean(), nullable=False),
    Column("muted_by", String(128)),
    Column("group", String(128), nullable=False),
    Column("resolved_at", UtcDateTime),
    Column("acknowledged_at", UtcDateTime),
    Column("acknowledged_by", String(128)),
    Column("body", LargeBinary(), nullable=False),
    Index("ix_alerts_workspace_id", "workspace", "id"),
    Index("ix_alerts_is_done", "is_done"),
    Index("ix_alerts_resolved_at", "resolved_at"),
)
events = Table(
    "alert_events",
    metadata,
    Column("id", Uuid(), primary_key=True),
    workspace_column(),
    Column("alert", Uuid(), ForeignKey("alerts.id", ondelete="CASCADE"), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("what", String(32), nullable=False),
    Column("by", String(128)),
    Column("detail", Text()),
    Index("ix_alert_events_alert", "alert", "id"),
)
groups = Table(
    "alert_groups",
    metadata,
    workspace_column(),
    Column("key", String(128), nullable=False),
    Column("told_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("workspace", "key"),
)
silences = Table(
    "alert_silences",
    metadata,
    Column("id", Uuid(), primary_key=True),
    workspace_column(),
    Column("everywhere", Boolean(), nullable=False),
    Column("matchers", LargeBinary(), nullable=False),
    Column("starts_at", UtcDateTime, nullable=False),
    Column("ends_at", UtcDateTime, nullable=False),
    Column("by", String(128), nullable=False),
    Column("comment", Text(), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index("ix_alert_silences_ends_at", "ends_at"),
)
notices = Table(
    "alert_notices",
    metadata,
    Column("id", Uuid(), primary_key=True),
    workspace_column(),
    Column("group", String(128), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("body", LargeBinary(), nullable=False),
    Index("ix_alert_notices_group", "group", "at"),
    Index("ix_alert_notices_at", "at"),
)
deliveries = Table(
    "alert_deliveries",
    metadata,
    Column("id", Uuid(), primary_key=True),
    workspace_column(),
    Column("notice", Uuid(), ForeignKey("alert_notices.id", ondelete="CASCADE"), nullable=False),
    Column("channel", String(64), nullable=False),
    Column("group", String(128), nullable=False),
    Column("reason", String(16), nullable=False),
    Column("tells_ends", Boolean(), nullable=False),
    Column("state", String(16), nullable=False),
    Column("tries", Integer(), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("holder", Uuid()),
    Column("lease_until", UtcDateTime),
    Index("ix_alert_deliveries_state", "state", "channel", "id"),
    Index("ix_alert_deliveries_notice", "notice"),
)
attempts = Table(
    "alert_attempts",
    metadata,
    Column("id", Uuid(), primary_key=True),
    workspace_column(),
    Column("delivery", Uuid(), ForeignKey("alert_deliveries.id", ondelete="CASCADE"), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("status", Integer()),
    Column("error", Text()),
    Column("milliseconds", Float(), nullable=False),
    Index("ix_alert_attempts_delivery", "delivery", "id"),
)
counts = Table(
    "alert_counts",
    metadata,
    workspace_column(),
    Column("channel", String(64), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("count", BigInteger(), nullable=False),
    PrimaryKeyConstraint("workspace", "channel", "outcome"),
)
