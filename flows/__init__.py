"""Which steps, in which order: Prefect flows and the command line. No maths, no file formats."""
