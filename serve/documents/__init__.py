"""Live documents of a shop: placements, merchandising rules and user profiles, changed over HTTP."""
