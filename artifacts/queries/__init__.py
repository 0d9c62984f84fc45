"""Questions about what is stored: why, what from, how much."""
