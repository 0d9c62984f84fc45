"""How sensitive a model's loss is to each of its parameters."""
