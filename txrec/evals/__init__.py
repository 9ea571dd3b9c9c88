"""Honest measuring: what is asked (`protocol`), how well it was answered (`metrics`), by how much and how surely
(`bootstrap`), against what (`baselines`), and a page to look at (`report`).
"""
