"""Merchandising rules: conditions on requests, effects on slates, their matching, application and checks."""
