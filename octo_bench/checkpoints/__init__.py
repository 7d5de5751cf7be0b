"""Checkpoints on disk: our own policy folders, and released ones."""
