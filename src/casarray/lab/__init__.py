"""A site to break at will: servers, clients, faults, in network namespaces or on loopback."""
