"""Which detectors there are: bundles shipped in the package and bundles added to the home folder."""
