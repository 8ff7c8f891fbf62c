"""Second factors, their recovery codes and challenges, and sign-ins that wait for one.

A revision is frozen once released: it spells its columns out and imports no table of the running code.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the four tables, and let a session say what it was begun with."""
    op.create_table(
        "second_factors",
        *_of_a_user(),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True)),
        sa.Column("used_at", sa.DateTime(timezone=True)),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("credential_id", sa.LargeBinary(), unique=True),
        sa.Column("counter", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_second_factors_user_id_id", "second_factors", ["user_id", "id"])
    op.create_table(
        "recovery_codes",
        *_of_a_user(),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True)),
    )
    op.create_index("ix_recovery_codes_user_id_digest", "recovery_codes", ["user_id", "digest"])
    op.create_table(
        "factor_challenges",
        *_of_a_user(),
        sa.Column("factor_id", sa.Uuid()),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("bound_to", sa.LargeBinary(32), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("target", sa.LargeBinary(32)),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
    )
    op.create_index("ix_factor_challenges_user_id_created_at", "factor_challenges", ["user_id", "created_at"])
    op.create_index("ix_factor_challenges_target_created_at", "factor_challenges", ["target", "created_at"])
    op.create_table(
        "sign_ins",
        *_of_a_user(),
        sa.Column("ticket_sha256", sa.LargeBinary(32), nullable=False, unique=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_sign_ins_user_id", "sign_ins", ["user_id"])
    op.add_column("sessions", sa.Column("factor", sa.String(16)))
    op.add_column("sessions", sa.Column("proven_at", sa.DateTime(timezone=True)))


def _of_a_user() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("user_id", sa.Uuid(), sa.ForeignKey("users.id"), nullable=False),
    )


def downgrade() -> None:
    """Going back would lose factors, and let in by a password alone: restore a backup instead."""
    raise NotImplementedError("schemas are not downgraded; restore the backup made before the upgrade")
