"""The Ray Serve application: HTTP ingress, retrieval and ranking deployments, and the console.

`serve.app` binds the deployments and starts them; `serve.ingress` builds the HTTP application over any `Service`
(`serve.types`), with or without Ray.
"""
