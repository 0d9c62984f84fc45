"""Steps that ask a teacher for its outputs, for students to learn from."""
