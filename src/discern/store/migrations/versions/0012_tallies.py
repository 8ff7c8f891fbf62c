"""How many verdicts there are, added up as they are written.

Those that are on the ledger are added up here by what its columns tell: which stage decided, what it took and whether
the answer was known stands in their bodies, which may be sealed.

A revision is frozen once released: it spells its columns out and imports no table of the running code.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
_DECISIONS = ("clear", "review", "flag")


def upgrade() -> None:
    """Create the table, and count what is on the ledger."""
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    sums = [
        column
        for decision in _DECISIONS
        for column in (
            sa.Column(f"{decision}_verdicts", sa.BigInteger(), nullable=False),
            sa.Column(f"{decision}_milliseconds", sa.Float(), nullable=False),
            sa.Column(f"{decision}_scores", sa.Float(), nullable=False),
            sa.Column(f"{decision}_variances", sa.Float(), nullable=False),
        )
    ]
    op.create_table(
        "tallies",
        sa.Column("id", sa.Integer() if on_sqlite else sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("workspace", sa.String(64), sa.ForeignKey("workspaces.workspace"), nullable=False),
        sa.Column("detector", sa.String(64), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("decided_by", sa.String(64), nullable=False),
        sa.Column("stages", sa.String(), nullable=False),
        sa.Column("cached", sa.Boolean(), nullable=False),
        sa.Column("degraded", sa.String(64), nullable=False),
        *sums,
    )
    op.create_index("ix_tallies_hour", "tallies", ["hour"])
    if not on_sqlite:
        # A row is changed again and again: room beside it keeps that from growing the table and its indexes.
        op.execute("ALTER TABLE tallies SET (fillfactor = 50)")
    hour = "substr(created_at, 1, 13) || ':00:00.000000'" if on_sqlite else "date_trunc('hour', created_at)"
    counted = ", ".join(
        f"count(*) FILTER (WHERE decision = '{one}'), 0, coalesce(sum(score) FILTER (WHERE decision = '{one}'), 0), "
        f"coalesce(sum(score * (1 - score)) FILTER (WHERE decision = '{one}'), 0)"
        for one in _DECISIONS
    )
    false = "0" if on_sqlite else "false"
    written = f"SELECT {hour} AS hour, workspace, detector, version, decision, score FROM verdicts"  # nosec B608  # noqa: S608 - words of this file
    op.execute(
        f"INSERT INTO tallies SELECT row_number() OVER (), hour, workspace, detector, version, '', '', {false}, '', "  # nosec B608  # noqa: S608 - words of this file
        f"{counted} FROM ({written}) AS written GROUP BY hour, workspace, detector, version"
    )


def downgrade() -> None:
    """Schemas are not downgraded."""
    raise NotImplementedError("schemas are not downgraded; restore the backup made before the upgrade")
