"""Other serving frameworks, each in an environment of its own without Discern, with the same model files."""
