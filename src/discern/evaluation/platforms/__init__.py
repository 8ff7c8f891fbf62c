"""The same detector in other forms and on other runtimes: what it gains, what it loses, and what may be served."""
