"""Scripted experts, one per task family, made of a few shared motions."""
