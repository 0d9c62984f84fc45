"""The core steps on a GPU, in the sizes of real models, on random weights."""
