"""Use cases: one module per thing a person or a daemon asks for."""
