"""The `discern` command: one door among others, put together from the features' commands."""
