"""How long verdicts, jobs, sessions and runs are kept, and their deletion."""
