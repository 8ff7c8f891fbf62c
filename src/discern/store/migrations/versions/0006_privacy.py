"""Consents, what a workspace asks for, and which verdicts and jobs are about whom.

A revision is frozen once released: it spells its columns out and imports no table of the running code.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the tables, and the column of jobs."""
    op.create_table(
        "verdict_subjects",
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("key_id", sa.LargeBinary(16), nullable=False),
        sa.Column("verdict_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "key_id", "verdict_id"),
    )
    op.create_table(
        "privacy_rules",
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("consent_required", sa.Boolean(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("workspace"),
    )
    op.create_table(
        "consents",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("reference", sa.String(64), nullable=False),
        sa.Column("given", sa.Boolean(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.String(100), nullable=False),
        sa.Column("source", sa.String(200), nullable=False),
    )
    op.create_index("ix_consents_workspace_reference_id", "consents", ["workspace", "reference", "id"])
    op.add_column("jobs", sa.Column("subject", sa.String(64)))


def downgrade() -> None:
    """Going back would lose consents: restore a backup instead."""
    raise NotImplementedError("schemas are not downgraded; restore the backup made before the upgrade")
