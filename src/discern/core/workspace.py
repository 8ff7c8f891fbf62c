"""The tenant that every row and every permission belongs to."""

from __future__ import annotations

DEFAULT_WORKSPACE = "default"
"""The workspace every installation starts with."""
