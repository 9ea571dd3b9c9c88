"""Declared sources: their files, chunks, joined files and SQL statements, and the canonical rows of their columns."""
