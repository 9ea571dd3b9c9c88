"""Ranker training: examples, listwise and graded losses, fusion weights."""
