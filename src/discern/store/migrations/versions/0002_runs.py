"""Runs of bulk scoring, and a ledger that costs less to write.

A revision is frozen once released: it spells its columns out and imports no table of the running code.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table of runs."""
    op.create_table(
        "runs",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("principal", sa.String(100), nullable=False),
        sa.Column("detector", sa.String(64), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("body", sa.LargeBinary(), nullable=False),
    )
    op.create_index("ix_runs_workspace_id", "runs", ["workspace", "id"])
    _key_the_ledger_by_workspace()


def _key_the_ledger_by_workspace() -> None:
    """Make the primary key (workspace, id), which is what is asked for, and one index of three."""
    for columns in ("workspace", "workspace_detector", "workspace_decision"):
        op.drop_index(f"ix_verdicts_{columns}_id", "verdicts")
    op.rename_table("verdicts", "verdicts_by_id")
    op.create_table(
        "verdicts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("principal", sa.String(100), nullable=False),
        sa.Column("detector", sa.String(64), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("decision", sa.String(8), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("input_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "id", name="pk_verdicts"),
        sa.CheckConstraint("decision IN ('clear', 'review', 'flag')", name="ck_verdicts_decision"),
    )
    op.execute("INSERT INTO verdicts SELECT * FROM verdicts_by_id ORDER BY id")
    op.drop_table("verdicts_by_id")
    op.create_index(
        "ix_verdicts_workspace_detector_decision_id", "verdicts", ["workspace", "detector", "decision", "id"]
    )


def downgrade() -> None:
    """Going back would lose runs: restore a backup instead."""
    raise NotImplementedError("schemas are not downgraded; restore the backup made before the upgrade")
