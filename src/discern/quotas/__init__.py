"""How much a workspace may ask for in a calendar month, and how much it has."""
