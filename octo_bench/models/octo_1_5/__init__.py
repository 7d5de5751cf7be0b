"""Octo 1.5, the released architecture (Octo Model Team, RSS 2024, arXiv 2405.12213)."""
