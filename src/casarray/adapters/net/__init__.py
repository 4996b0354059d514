"""The sockets of the gateway."""
