"""One step per file: its config, its identity, its Prefect task."""
