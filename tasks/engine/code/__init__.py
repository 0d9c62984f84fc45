"""Which code computes a step, and whether it still is the code that made a stored result."""
