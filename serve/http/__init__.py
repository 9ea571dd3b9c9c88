"""HTTP parts that all endpoints share: middleware, API keys, limits, error responses and dependencies."""
