"""Benchmarks: commands that print a ratio against a limit or a peer. Never part of the tests."""
