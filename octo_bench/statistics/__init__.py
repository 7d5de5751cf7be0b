"""Pure functions on counts and outcomes; no input or output."""
