"""Examples: a model of one's own, from training data to a bundle, one script for each library."""
