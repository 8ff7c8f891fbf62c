"""What every table shares: one MetaData, and the workspace each row belongs to.

- Every table has a `workspace` column; a test over the database holds this for tables to come.
"""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, MetaData, String, Table

from discern.store.types import UtcDateTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

workspaces = Table(
    "workspaces",
    metadata,
    Column("workspace", String(64), primary_key=True),
    Column("created_at", UtcDateTime, nullable=False),
)


def workspace_column() -> Column[str]:
    """Return the column that ties a row to its tenant."""
    return Column("workspace", String(64), ForeignKey("workspaces.workspace"), nullable=False)
