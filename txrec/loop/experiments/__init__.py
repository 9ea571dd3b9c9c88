"""Experiments: assignment of users, outcomes, interleaving, confidence sequences and decisions."""
