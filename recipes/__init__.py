"""How the shipped detectors are trained and measured, one folder each, and examples of making one's own."""
