"""What Alembic runs: every pending revision in one transaction on the connection it was handed."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

connection = context.config.attributes["connection"].execution_options(writes=True)
context.configure(connection=connection, transactional_ddl=True)
with context.begin_transaction():
    if connection.dialect.name == "postgresql":
        # Copying a ledger takes as long as it takes.
        connection.execute(text("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0"))
    context.run_migrations()
connection.commit()
