"""HTTP bodies of placements."""

from serve.api.base import Reply
from serve.documents.placements import Placement


class PlacementsReply(Reply):
    """Placements, by name."""

    placements: dict[str, Placement]
    """Name = defaults."""


class PlacementDeletedReply(Reply):
    """A placement is removed."""

    name: str
    """Its name."""
