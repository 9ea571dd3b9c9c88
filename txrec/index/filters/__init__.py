"""Filters: conditions on products as masks, filter expressions, and facet counts."""
