"""A declared study, its cells, and running them on this machine."""
