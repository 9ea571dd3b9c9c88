"""Training loops in plain torch: they run anywhere, on one process or several, and Ray only calls them."""
