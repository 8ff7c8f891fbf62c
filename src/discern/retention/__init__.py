"""How long verdicts, jobs, sessions, runs and labels are kept, and their deletion."""
