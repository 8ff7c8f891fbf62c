"""What every other part speaks of: verdicts, errors, identifiers, time. Pure, no I/O."""
