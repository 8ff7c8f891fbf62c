"""How a detector holds up: corrupted inputs, live streams over bad networks, and attacks with a budget."""
