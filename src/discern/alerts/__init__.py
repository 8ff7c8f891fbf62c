"""Telling people that something is wrong: rules over metrics, their states, and notices by every channel."""
