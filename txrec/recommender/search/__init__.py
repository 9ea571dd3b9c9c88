"""Search pages: matching products, facets, orders and paging; generic words and completions."""
