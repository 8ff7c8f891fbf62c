"""How good detectors are in production: estimated before labels come, realised when they have come, and the gap."""
