"""What administrators do with the shared account: make it, name it, roll it, prove it."""
