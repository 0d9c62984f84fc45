"""Truncated singular value decomposition with a certificate."""
