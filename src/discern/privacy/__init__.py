"""The people whom verdicts are about: what is kept of them, handed out to them, and forgotten when they ask for it."""
