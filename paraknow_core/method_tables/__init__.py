"""The entries of ``METHODS``, a family of methods a file."""
