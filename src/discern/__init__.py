"""Discern takes a trained detector to production."""

__version__ = "0.1.0"
