"""Benchmarks through lm-evaluation-harness: what they are, and what a model scores on them."""
