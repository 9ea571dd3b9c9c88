"""Observability: JSON logs, Prometheus metrics, and live figures of served traffic."""
