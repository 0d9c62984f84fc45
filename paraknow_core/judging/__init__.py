"""Judging answers by another model: pairs of answers, asked in both positions."""
