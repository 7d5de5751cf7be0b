"""How fast policies and the simulation are."""
