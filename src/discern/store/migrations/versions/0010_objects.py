"""Objects that are kept, and their wrapped keys.

A revision is frozen once released: it spells its columns out and imports no table of the running code.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "objects",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("folder", sa.String(120), nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("wrapped_by", sa.String(300)),
        sa.Column("wrapped", sa.LargeBinary()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    kept = sa.text("state = 'kept'")
    op.create_index(
        "uq_objects_kept",
        "objects",
        ["workspace", "folder", "name"],
        unique=True,
        sqlite_where=kept,
        postgresql_where=kept,
    )
    op.create_index("ix_objects_state_id", "objects", ["state", "id"])


def downgrade() -> None:
    """Going back would lose the keys of what is kept: restore a backup instead."""
    raise NotImplementedError("schemas are not downgraded; restore the backup made before the upgrade")
