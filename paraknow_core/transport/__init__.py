"""Updates of a student from a teacher's weights, carried over by maps between their activations."""
