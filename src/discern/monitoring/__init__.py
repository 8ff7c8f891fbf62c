"""Watching an installation: metrics, health, drift, quality, cost. What reaches people is in `alerts`."""
