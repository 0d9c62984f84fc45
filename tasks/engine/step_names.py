"""Names of steps that are looked for among stored results. Needs no library."""

MODEL_STEP = "acquire-model"
"""Its results are the models."""
