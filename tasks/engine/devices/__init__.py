"""Which run computes on a device of this machine: each in its turn, step by step."""
