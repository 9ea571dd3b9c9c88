"""Ray Serve deployments: ingress, retriever and ranker, and the calls between them."""
