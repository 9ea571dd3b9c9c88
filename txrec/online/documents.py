"""Document store interface: named JSON documents of one kind, with a version that grows with every change.

Rules, placements and the like are documents: few, changed by people, read by every replica. A reader compares versions
and reads all documents when there is a new one. Implementations: `sqlite_documents.py` (the same file as the events)
and `redis_documents.py`; `stores.open_documents` opens the configured one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Documents:
    """All documents of a kind.

    Attributes:
        version: number of the last change, 0 = none.
        by_name: every document by its name.
    """

    version: int = 0
    by_name: Mapping[str, Document] = field(default_factory=dict)


class DocumentStore(Protocol):
    """Keeps documents. Every method may raise `UnavailableError`; acknowledged changes are never lost."""

    def version(self) -> int:
        """Number of the last change, 0 = none."""
        ...

    def all(self) -> Documents:
        """All documents, as of one version."""
        ...

    def get(self, name: str) -> Document | None:
        """One document; None where there is none of this name."""
        ...

    def put(self, documents: Mapping[str, Document], expected_version: int | None = None) -> int | None:
        """Adds or replaces documents durably, all or none, before it returns.

        Args:
            documents: by name.
            expected_version: nothing is written where the version is another one by now; None = whatever it is.

        Returns:
            The new version; None where the version was not the expected one.
        """
        ...

    def delete(self, name: str) -> bool:
        """Removes a document durably; whether there was one."""
        ...

    def close(self) -> None:
        """Releases files and connections."""
        ...
