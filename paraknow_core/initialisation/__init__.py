"""Start points without a teacher, and controls."""
