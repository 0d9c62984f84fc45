"""Measuring a student item by item, and looking at its weights."""
