"""Benchmarks: each script prints a table and, as its last line, one JSON object. They are no part of the wheel."""
