"""What can be known to fail, and is refused before anything is built on it."""
