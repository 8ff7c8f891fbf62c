"""What detectors are shown and say, against what they were made on: sketches by release, and tests at a stated rate."""
