"""Alerts, what happened to them, silences, and notices on their way.

A revision is frozen once released: it spells its columns out and imports no table of the running code.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "alerts",
        sa.Column("id", sa.Uuid(), primary_key=True),
        _workspace(),
        sa.Column("everywhere", sa.Boolean(), nullable=False),
        sa.Column("rule", sa.String(64), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        # The rule and the labels of one that is not over, of which there is one at a time.
        sa.Column("open_as", sa.String(100), unique=True),
        sa.Column("machine", sa.String(64), nullable=False),
        sa.Column("is_done", sa.Boolean(), nullable=False),
        sa.Column("levels", sa.Integer(), nullable=False),
        sa.Column("told_at", _time()),
        sa.Column("end_told", sa.Boolean(), nullable=False),
        sa.Column("muted_by", sa.String(128)),
        sa.Column("group", sa.String(128), nullable=False),
        sa.Column("resolved_at", _time()),
        sa.Column("acknowledged_at", _time()),
        sa.Column("acknowledged_by", sa.String(128)),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Index("ix_alerts_workspace_id", "workspace", "id"),
        sa.Index("ix_alerts_is_done", "is_done"),
        sa.Index("ix_alerts_resolved_at", "resolved_at"),
    )
    op.create_table(
        "alert_events",
        sa.Column("id", sa.Uuid(), primary_key=True),
        _workspace(),
        sa.Column("alert", sa.Uuid(), sa.ForeignKey("alerts.id", ondelete="CASCADE"), nullable=False),
        sa.Column("at", _time(), nullable=False),
        sa.Column("what", sa.String(32), nullable=False),
        sa.Column("by", sa.String(128)),
        sa.Column("detail", sa.Text()),
        sa.Index("ix_alert_events_alert", "alert", "id"),
    )
    op.create_table(
        "alert_groups",
        _workspace(),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("told_at", _time(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "key"),
    )
    op.create_table(
        "alert_silences",
        sa.Column("id", sa.Uuid(), primary_key=True),
        _workspace(),
        sa.Column("everywhere", sa.Boolean(), nullable=False),
        sa.Column("matchers", sa.LargeBinary(), nullable=False),
        sa.Column("starts_at", _time(), nullable=False),
        sa.Column("ends_at", _time(), nullable=False),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("created_at", _time(), nullable=False),
        sa.Index("ix_alert_silences_ends_at", "ends_at"),
    )
    _create_notices()


def _create_notices() -> None:
    op.create_table(
        "alert_notices",
        sa.Column("id", sa.Uuid(), primary_key=True),
        _workspace(),
        sa.Column("group", sa.String(128), nullable=False),
        sa.Column("at", _time(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Index("ix_alert_notices_group", "group", "at"),
        sa.Index("ix_alert_notices_at", "at"),
    )
    op.create_table(
        "alert_deliveries",
        sa.Column("id", sa.Uuid(), primary_key=True),
        _workspace(),
        sa.Column("notice", sa.Uuid(), sa.ForeignKey("alert_notices.id", ondelete="CASCADE"), nullable=False),
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column("group", sa.String(128), nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("tells_ends", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("created_at", _time(), nullable=False),
        sa.Column("due_at", _time(), nullable=False),
        sa.Column("finished_at", _time()),
        sa.Column("holder", sa.Uuid()),
        sa.Column("lease_until", _time()),
        sa.Index("ix_alert_deliveries_state", "state", "channel", "id"),
        sa.Index("ix_alert_deliveries_notice", "notice"),
    )
    op.create_table(
        "alert_attempts",
        sa.Column("id", sa.Uuid(), primary_key=True),
        _workspace(),
        sa.Column("delivery", sa.Uuid(), sa.ForeignKey("alert_deliveries.id", ondelete="CASCADE"), nullable=False),
        sa.Column("at", _time(), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("error", sa.Text()),
        sa.Column("milliseconds", sa.Float(), nullable=False),
        sa.Index("ix_alert_attempts_delivery", "delivery", "id"),
    )
    op.create_table(
        "alert_counts",
        _workspace(),
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "channel", "outcome"),
    )


def _workspace() -> sa.Column[Any]:
    return sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False)


def _time() -> sa.DateTime:
    return sa.DateTime(timezone=True)


def downgrade() -> None:
    """Schemas are not downgraded."""
    raise NotImplementedError("schemas are not downgraded; restore the backup made before the upgrade")
