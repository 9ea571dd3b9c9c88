"""From raw tables to the prepared ones: sources, cleaning, splits, and the generated shop."""
