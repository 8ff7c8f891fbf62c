"""Live streams: frames and records over a WebSocket, a verdict for each and one for every window."""
