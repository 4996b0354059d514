"""One file per RPC interface."""
