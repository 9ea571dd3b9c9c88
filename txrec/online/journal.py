"""Item journal interface: live catalogue changes since training, kept so that every bundle can apply them.

One entry per product: a change is merged with the earlier ones, so that the journal does not grow with every price
change. Entries are numbered; a reader that has applied all up to one number asks for the later ones. Implementations:
`sqlite_journal.py` (the same file as the events) and `redis_journal.py`; `stores.open_journal` opens the configured
one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from txrec.recommender.catalogue import ItemChange


@dataclass(frozen=True)
class Changes:
    """Changes of products after some number.

    Attributes:
        version: number of the last change.
        items: every product that was changed, as it stands now.
    """

    version: int
    items: tuple[ItemChange, ...] = ()


class ItemJournal(Protocol):
    """Keeps changes of products. Every method may raise `UnavailableError`; acknowledged changes are never lost."""

    def put(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Stores rows of schema.ITEMS columns durably, all or none, before it returns.

        Only `item_id` is required. What a row leaves out stays as it was said before, None takes a value away; a
        retired product starts afresh.

        Returns:
            The number of the last change.
        """
        ...

    def retire(self, item_id: str) -> int:
        """Takes a product out of sale, durably; the number of the change."""
        ...

    def get(self, item_id: str) -> ItemChange | None:
        """Latest change of a product; None = none."""
        ...

    def since(self, version: int) -> Changes:
        """Changes after a number, 0 = all."""
        ...

    def close(self) -> None:
        """Releases files and connections."""
        ...


def merged(before: ItemChange | None, row: Mapping[str, Any], number: int) -> ItemChange:
    """A product after a row was put."""
    said = {name: value for name, value in row.items() if name != "item_id"}
    if before is None:
        return ItemChange(str(row["item_id"]), said, False, number)
    known = {} if before.retired else before.fields
    return ItemChange(before.item_id, {**known, **said}, False, before.first_seq or number)


def retired(before: ItemChange | None, item_id: str) -> ItemChange:
    """A product after it was retired; its fields stay, for histories that name it."""
    return ItemChange(item_id, before.fields if before else {}, True, before.first_seq if before else 0)
