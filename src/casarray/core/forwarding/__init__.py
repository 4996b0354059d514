"""What the kernel should be doing, as values."""
