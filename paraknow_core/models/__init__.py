"""Architectures and families of models: describing, checking, loading."""
