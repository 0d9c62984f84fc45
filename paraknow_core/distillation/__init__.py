"""Training on a teacher's outputs: its stored targets, and the loss that is made of them."""
