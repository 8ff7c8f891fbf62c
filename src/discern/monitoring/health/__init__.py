"""How an installation is: its parts, its circuit breakers, and what it noticed and did by itself."""
