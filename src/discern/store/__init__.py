"""Plumbing of the database: engine, transactions, migrations. It knows no feature."""
