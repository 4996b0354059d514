"""Where what must survive is kept."""
