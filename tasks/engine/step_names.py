"""Names of steps by which stored results are searched. Imports no library."""

MODEL_STEP = "acquire-model"
"""The step whose results are models."""
