"""Preparation of data: sources, cleaning, splits, sequences."""
