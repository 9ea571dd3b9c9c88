"""Shared parts of the training stages: Ray Train workers, warm start, records of figures."""
