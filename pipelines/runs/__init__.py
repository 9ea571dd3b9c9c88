"""A run on disk or in object storage: its files, its bundles, and the settings of its stages."""
