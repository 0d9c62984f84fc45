"""Which of the teacher's layers, matrices and tokens belong to which of the student's."""
