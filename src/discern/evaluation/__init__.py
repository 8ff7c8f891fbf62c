"""How good a detector is: on which data, on which platform, under which conditions, and with which interval."""
