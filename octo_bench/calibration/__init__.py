"""How well intervals, tests and the gate keep what they promise."""
