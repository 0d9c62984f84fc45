"""The cells of a comparison as runs of a deployment, on whatever workers take them."""
