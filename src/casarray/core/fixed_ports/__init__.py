"""Fixed ports of the two RPC services: the files that set them, what is set, what is so, and what to warn of."""
