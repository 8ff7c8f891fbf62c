"""Who did what: the hash-chained log of privileged acts and of denials."""
