"""Candidate sources, their fusion, and the filters that hold inside them."""
