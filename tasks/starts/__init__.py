"""The steps that start points are made by: of the teacher, of the student, or put together."""
