"""What is benchmarked, read from `envs/` into frozen dataclasses."""
