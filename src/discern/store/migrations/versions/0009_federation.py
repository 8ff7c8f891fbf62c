"""Users that come from identity providers, sessions that end at a time, and what was used up of a sign-in.

A revision is frozen once released: it spells its columns out and imports no table of the running code.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the columns, and create two tables."""
    op.add_column("users", sa.Column("provider", sa.String(40)))
    op.add_column("users", sa.Column("subject", sa.Text()))
    op.add_column("users", sa.Column("identity_sha256", sa.LargeBinary(32)))
    op.create_index("ix_users_identity_sha256", "users", ["identity_sha256"], unique=True)
    op.add_column("sessions", sa.Column("ends_at", sa.DateTime(timezone=True)))
    op.create_table(
        "spent_sign_ins",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("forget_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_spent_sign_ins_forget_at", "spent_sign_ins", ["forget_at"])
    op.create_table(
        "sign_in_failures",
        sa.Column("identity_sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True)),
    )


def downgrade() -> None:
    """Going back would lose users: restore a backup instead."""
    raise NotImplementedError("schemas are not downgraded; restore the backup made before the upgrade")
