"""Concurrency in one event loop: batches of calls, cooperative computations, circuit breakers."""
