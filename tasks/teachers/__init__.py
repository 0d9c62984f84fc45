"""What makes teachers of models that are not plain dense ones."""
