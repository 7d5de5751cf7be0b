"""Rolling out policies, and checking that an episode depends on itself alone."""
