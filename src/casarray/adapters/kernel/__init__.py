"""nftables, conntrack and addresses of this host."""
