"""The RPC language and the interfaces spoken in it; knows nothing of arrays."""
