"""Two policies by their episodes: comparison, gate, bisection, golden answers."""
