"""The parameters of the flows, and reading them."""
