"""What people and outcomes say of verdicts: the labels that quality, thresholds and retraining use."""
