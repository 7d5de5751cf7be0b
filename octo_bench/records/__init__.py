"""What is recorded of an episode, and what it depends on."""
