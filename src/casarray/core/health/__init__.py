"""May this server be used."""
