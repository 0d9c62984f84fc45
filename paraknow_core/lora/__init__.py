"""LoRA adapters: start points, files, merging, compressing."""
