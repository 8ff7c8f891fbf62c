"""Labels of verdicts, and the quality that follows from them.

A revision is frozen once released: it spells its columns out and imports no table of the running code.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "labels",
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("verdict_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("detector", sa.String(64), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("decision", sa.String(8), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("decided_by", sa.String(64), nullable=False),
        sa.Column("cached", sa.Boolean(), nullable=False),
        sa.Column("verdict_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("label", sa.String(64)),
        sa.Column("positive", sa.Boolean()),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("selected_by", sa.String(16), nullable=False),
        sa.Column("propensity", sa.Float()),
        sa.Column("held_out", sa.Float()),
        sa.Column("labelled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("at_was_given", sa.Boolean(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.LargeBinary(16)),
        sa.Column("principal", sa.String(100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "verdict_id", "number"),
    )
    op.create_index("ix_labels_workspace_detector_verdict_at", "labels", ["workspace", "detector", "verdict_at"])
    op.create_index("ix_labels_id", "labels", ["id"])
    op.create_index("ix_labels_workspace_key_id", "labels", ["workspace", "key_id"])
    op.create_table(
        "label_counts",
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("detector", sa.String(64), nullable=False),
        sa.Column("label", sa.String(64), nullable=False),
        sa.Column("labels", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "detector", "label"),
    )
    op.create_table(
        "quality_windows",
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("detector", sa.String(64), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "detector", "version", "start"),
    )
    op.create_table(
        "quality_standings",
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("detector", sa.String(64), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "detector", "version"),
    )


def downgrade() -> None:
    """Going back would lose labels: restore a backup instead."""
    raise NotImplementedError("schemas are not downgraded; restore the backup made before the upgrade")
