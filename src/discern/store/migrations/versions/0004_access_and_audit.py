"""Roles, grants and ends of keys; the audit log; when a webhook is told again.

A revision is frozen once released: it spells its columns out and imports no table of the running code.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Give keys roles, and create the tables of the audit log."""
    # Until here every key could do everything that there was to do.
    op.add_column("api_keys", sa.Column("role", sa.String(16), nullable=False, server_default="owner"))
    op.add_column("api_keys", sa.Column("detectors", sa.Text()))
    op.add_column("api_keys", sa.Column("expires_at", sa.DateTime(timezone=True)))
    op.add_column("api_keys", sa.Column("certificate_sha256", sa.String(64)))
    op.create_index("ix_api_keys_certificate_sha256", "api_keys", ["certificate_sha256"])
    op.add_column("api_keys", sa.Column("last_used_at", sa.DateTime(timezone=True)))
    op.add_column("jobs", sa.Column("tell_at", sa.DateTime(timezone=True)))
    op.add_column("jobs", sa.Column("not_judged", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "audit_entries",
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.String(100), nullable=False),
        sa.Column("act", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(8), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "number", name="pk_audit_entries"),
    )
    op.create_table(
        "audit_heads",
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("workspace", name="pk_audit_heads"),
    )


def downgrade() -> None:
    """Going back would lose the audit log: restore a backup instead."""
    raise NotImplementedError("schemas are not downgraded; restore the backup made before the upgrade")
