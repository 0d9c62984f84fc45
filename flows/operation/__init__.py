"""What a person who operates runs meets: their names, a submission, and the set-up of a server."""
