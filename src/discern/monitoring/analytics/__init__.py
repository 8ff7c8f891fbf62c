"""What was asked of detectors hour by hour, what it cost, what a month will cost, and reports of it all."""
