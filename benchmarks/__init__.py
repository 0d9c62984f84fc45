"""Runnable measurements of the core steps against the published algorithm."""
