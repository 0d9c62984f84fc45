"""How the cost of the core steps grows: measured, fitted, and drawn."""
