"""Bytes and identity: the content-addressed store. Knows neither Prefect nor tensors."""
