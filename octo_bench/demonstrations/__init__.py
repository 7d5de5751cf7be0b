"""Demonstrations: collecting, reading, and what training sees of them."""
