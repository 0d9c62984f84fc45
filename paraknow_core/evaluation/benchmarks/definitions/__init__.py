"""Definitions of benchmarks that are shipped; the harness reads them as files."""
