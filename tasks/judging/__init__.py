"""Steps in which a judge compares answers."""
