"""Films and pictures of episodes and environments."""
