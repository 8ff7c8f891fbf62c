"""What Alembic runs: every pending revision in one transaction on the connection it was handed."""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"].execution_options(writes=True)
context.configure(connection=connection, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
connection.commit()
