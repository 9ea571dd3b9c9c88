"""Served models: bundles that a replica opens, tries and exchanges while it answers, and shadow models."""
