"""Which server gets this client."""
