"""Policies behind one batched protocol."""
