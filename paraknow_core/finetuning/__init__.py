"""Training a student's adapter, and proving that what is stored is what was trained."""
