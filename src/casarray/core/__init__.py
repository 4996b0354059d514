"""The pure core: no sockets, files, clock, threads or randomness below here."""
