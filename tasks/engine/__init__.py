"""How a step is identified, run, found again and compared with the code that made it."""
