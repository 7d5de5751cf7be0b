"""Scripted demonstrators, one per task family, made of a few shared motions."""
