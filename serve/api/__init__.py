"""Bodies of the HTTP API: requests and replies, with limits and examples, one module per resource.

Ids are the shop's own strings. Bodies are closed: an unknown field is an error that names it, so that a misspelt
`filter` is never ignored. Limits that an operator sets (`serve.max_top_k`, `serve.max_query_chars`) are checked by the
ingress, the others here.
"""
