"""Rows of a task: where they come from, what their fields mean, how they are dealt out."""
