"""Who is asking: API keys and the principal they stand for."""
