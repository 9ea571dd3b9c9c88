"""Detection of a shop's files: layout, columns, kinds of tables and joins, written down as a configuration."""
