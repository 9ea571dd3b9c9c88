"""The request path: retrieval, ranking features, ranking, explanations, and the bundle that holds them on disk."""
