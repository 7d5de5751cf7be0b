"""Rolling out policies and recording the episodes."""
