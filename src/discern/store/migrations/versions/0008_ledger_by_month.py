"""The ledger by month on PostgreSQL; how long things are kept; quotas and what was used of them.

A revision is frozen once released: it spells its columns out and imports no table of the running code.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
_AHEAD = 3
# What is older stays together in one table.
_MOST_BACK = 120


def upgrade() -> None:
    """Create the tables, and put the ledger into months where the database can."""
    op.create_table(
        "retention",
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("days", sa.Integer()),
        sa.Column("not_told", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "kind", name="pk_retention"),
    )
    op.create_table(
        "retention_turns",
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("held_until", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("workspace", name="pk_retention_turns"),
    )
    op.create_table(
        "quotas",
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("verdicts", sa.BigInteger()),
        sa.Column("bytes", sa.BigInteger()),
        sa.PrimaryKeyConstraint("workspace", name="pk_quotas"),
    )
    op.create_table(
        "quota_uses",
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("month", sa.String(7), nullable=False),
        sa.Column("verdicts", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "month", name="pk_quota_uses"),
    )
    if op.get_bind().dialect.name == "postgresql":
        _put_the_ledger_into_months()


def _put_the_ledger_into_months() -> None:
    """Copy the ledger into a table that is partitioned along the id, which begins with the time it was made."""
    op.execute("LOCK TABLE verdicts IN ACCESS EXCLUSIVE MODE")
    op.execute("ALTER TABLE verdicts DROP CONSTRAINT pk_verdicts")
    op.drop_index("ix_verdicts_workspace_detector_decision_id", "verdicts")
    op.rename_table("verdicts", "verdicts_in_one")
    op.create_table(
        "verdicts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace", sa.String(64), nullable=False),
        sa.Column("principal", sa.String(100), nullable=False),
        sa.Column("detector", sa.String(64), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("decision", sa.String(8), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("input_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("decision IN ('clear', 'review', 'flag')", name="ck_verdicts_decision"),
        postgresql_partition_by="RANGE (id)",
    )
    oldest = op.get_bind().execute(sa.text("SELECT id FROM verdicts_in_one ORDER BY id LIMIT 1")).scalar()
    _make_partitions(None if oldest is None else UUID(str(oldest)))
    columns = "id, workspace, principal, detector, version, decision, score, input_sha256, created_at, body"
    op.execute(f"INSERT INTO verdicts ({columns}) SELECT {columns} FROM verdicts_in_one ORDER BY id")  # nosec B608  # noqa: S608
    op.drop_table("verdicts_in_one")
    # After the rows: building an index over them is quicker than keeping it up.
    op.create_primary_key("pk_verdicts", "verdicts", ["workspace", "id"])
    op.create_index(
        "ix_verdicts_workspace_detector_decision_id", "verdicts", ["workspace", "detector", "decision", "id"]
    )
    op.create_foreign_key("fk_verdicts_workspace", "verdicts", "workspaces", ["workspace"], ["workspace"])


def _make_partitions(oldest: UUID | None) -> None:
    now = datetime.now(UTC)
    present = now.year * 12 + now.month - 1
    first = present
    if oldest is not None:
        milliseconds = oldest.int >> 80
        made = datetime.fromtimestamp(min(milliseconds / 1000, now.timestamp()), UTC)
        first = max(made.year * 12 + made.month - 1, present - _MOST_BACK)
    op.execute(f"CREATE TABLE verdicts_before PARTITION OF verdicts FOR VALUES FROM (MINVALUE) TO ('{_least(first)}')")
    for month in range(first, present + _AHEAD + 1):
        year, of_year = divmod(month, 12)
        name = f"verdicts_{year:04d}_{of_year + 1:02d}"
        bounds = f"FROM ('{_least(month)}') TO ('{_least(month + 1)}')"
        op.execute(f"CREATE TABLE {name} PARTITION OF verdicts FOR VALUES {bounds}")
    last = _least(present + _AHEAD + 1)
    op.execute(f"CREATE TABLE verdicts_after PARTITION OF verdicts FOR VALUES FROM ('{last}') TO (MAXVALUE)")


def _least(month: int) -> UUID:
    year, of_year = divmod(month, 12)
    return UUID(int=int(datetime(year, of_year + 1, 1, tzinfo=UTC).timestamp() * 1000) << 80)


def downgrade() -> None:
    """Going back would lose what is kept: restore a backup instead."""
    raise NotImplementedError("schemas are not downgraded; restore the backup made before the upgrade")
