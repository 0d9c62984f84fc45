"""Quantised checkpoints and mixtures of experts as plain dense weights, read tensor by tensor."""
