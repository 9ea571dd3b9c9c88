"""Retrieval model training: batches, objective, training loop and validation."""
