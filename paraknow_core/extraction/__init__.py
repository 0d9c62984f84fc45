"""What is cut out of the teacher's matrices."""
