"""What a pair of models would need and could do, before anything runs."""
