"""Ranking: features, the order of candidates, fatigue, explanations, and the slate that comes out."""
