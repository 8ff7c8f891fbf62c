"""The subjects' keys, and what was erased.

A revision is frozen once released: it spells its columns out and imports no table of the running code.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "subject_keys",
        sa.Column("workspace", sa.String(64), nullable=False),
        sa.Column("reference", sa.String(64), nullable=False),
        sa.Column("key_id", sa.LargeBinary(16), nullable=False, unique=True),
        sa.Column("wrapped_by", sa.String(300), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "reference"),
    )
    op.create_table(
        "erasures",
        sa.Column("workspace", sa.String(64), nullable=False),
        sa.Column("key_id", sa.LargeBinary(16), nullable=False),
        sa.Column("reference", sa.String(64), nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "key_id"),
    )


def downgrade() -> None:
    """Going back would lose keys, and all that is sealed with them."""
    raise NotImplementedError("schemas are not downgraded; restore the backup made before the upgrade")
