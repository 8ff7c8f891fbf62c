"""What every route shares: authentication, bodies under limits, problem documents, health, the API page."""
