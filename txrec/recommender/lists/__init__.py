"""Lists without a query: trending, popular, new, bought together, buy again; and audiences of users."""
