"""How long steps take here: measured on small models, fitted to the laws of their work, kept."""
