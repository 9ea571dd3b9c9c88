"""Published bundles: versions, the production pointer, the promotion gate and rollouts."""
