"""One relayed connection, as events in and commands out."""
