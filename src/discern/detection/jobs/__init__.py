"""Jobs: inputs that take longer than a request should, judged in the background and never lost."""
