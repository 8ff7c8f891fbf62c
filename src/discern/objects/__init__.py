"""Objects that are kept, each encrypted by a key of its own, and the master key above them."""
