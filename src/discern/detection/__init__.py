"""The plane: the only way to a verdict, and the ledger that keeps it."""
