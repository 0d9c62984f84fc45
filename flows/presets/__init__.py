"""Tasks and recipes as files: those of the literature that are shipped, and anybody's own."""
