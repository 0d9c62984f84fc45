"""Benchmarks through lm-evaluation-harness, with its own tasks, filters, metrics and errors."""
