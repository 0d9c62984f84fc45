"""Model folders and safetensors files, read without building a model."""
