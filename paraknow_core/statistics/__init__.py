"""What may be said of differences between methods."""
