"""Retrieval: requests and user histories encoded, candidate sources searched, and their proposals fused."""
