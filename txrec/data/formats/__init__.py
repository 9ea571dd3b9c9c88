"""Formats of a shop's files as blocks of raw columns: text, JSON, Parquet; values and times as shops write them."""
