"""The trace of the request that handed a job in.

A revision is frozen once released: it spells its columns out and imports no table of the running code.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Add the column."""
    op.add_column("jobs", sa.Column("trace", sa.String(55)))


def downgrade() -> None:
    """Refuse: schemas are not downgraded."""
    raise NotImplementedError("schemas are not downgraded; restore the backup made before the upgrade")
