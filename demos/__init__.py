"""Scripted demonstrations, each a target of make: they start what they show, and fail when it does not appear."""
