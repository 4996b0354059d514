"""The world: thin, dull, replaceable; no decisions."""
