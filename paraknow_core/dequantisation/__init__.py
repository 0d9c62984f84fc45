"""Quantised checkpoints as plain weights: read tensor by tensor, and written as a model folder."""
