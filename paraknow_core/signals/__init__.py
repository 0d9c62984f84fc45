"""What a teacher says of texts or tokens and a student does not, written into the student."""
