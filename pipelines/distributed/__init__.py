"""Work on a Ray cluster: connection, checks of its machines, actor pools, and progress."""
