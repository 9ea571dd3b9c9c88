"""The Ray Serve application: HTTP ingress, retrieval and ranking deployments, and the console."""
