"""What would become of a pair of models."""
