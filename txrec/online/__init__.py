"""State that changes while a bundle is served."""
