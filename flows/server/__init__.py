"""The Prefect server that a run reports to: which is set, and one of its own where none is."""
