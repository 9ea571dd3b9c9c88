"""Exploration: slates drawn within the shop's bounds, the record of their propensities, and their cost."""
