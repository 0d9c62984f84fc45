"""Sensitivity of a teacher of any size: its weights are read layer by layer, and let go again."""
