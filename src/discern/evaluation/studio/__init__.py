"""The threshold studio: thresholds, exits and calibration chosen on data, with their evidence."""
