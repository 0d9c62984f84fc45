"""What the step ``comparison`` is made of: its settings, and one cell of its page."""
