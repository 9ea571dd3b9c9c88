"""Preparation of a data set: dataflow, cleaning, splits, vocabularies, user sequences, and the report on them."""
