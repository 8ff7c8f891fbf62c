"""Bundles: what a detector is made of, whether it may be believed, and how it is run."""
