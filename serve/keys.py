"""Who may do what: API keys with roles, kept as hashes.

A key file holds a line a key, `role:sha256-of-the-key`; `#` starts a comment. Roles: `read` asks for slates, `events`
also reports events, `admin` may do everything. Without a file everybody may do everything: right on loopback only.

    python -c "import secrets, hashlib; k = secrets.token_urlsafe(32); print(k, hashlib.sha256(k.encode()).hexdigest())"
"""

import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from txrec.errors import ConfigError

Role = Literal["read", "events", "admin"]
_INCLUDED: dict[Role, frozenset[str]] = {
    "read": frozenset({"read"}),
    "events": frozenset({"read", "events"}),
    "admin": frozenset({"read", "events", "admin"}),
}


@dataclass(frozen=True)
class Keys:
    """The known keys. An empty set means that no key is needed.

    Attributes:
        hashes: (role, sha256 of the key in hex).
    """

    hashes: tuple[tuple[Role, str], ...] = ()

    @classmethod
    def read(cls, path: str) -> "Keys":
        """Reads a key file; an empty path = no keys.

        Raises:
            ConfigError: no such file, or a line that is none of `role:sha256`; names the line, not its content.
        """
        if not path:
            return cls()
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise ConfigError(f"serve.keys_file = {path!r}: {error.strerror}") from None
        stripped = [(number, line.partition("#")[0].strip()) for number, line in enumerate(lines, start=1)]
        found = tuple(_parsed(path, number, line) for number, line in stripped if line)
        if not found:
            raise ConfigError(f"serve.keys_file = {path!r}: holds no key; leave the setting empty to need none")
        return cls(found)

    def allows(self, key: str, needed: Role) -> bool | None:
        """Whether a key may; None = unknown key. Takes the same time for every key."""
        if not self.hashes:
            return True
        given = _hash(key)
        matching = [role for role, known in self.hashes if hmac.compare_digest(known, given)]
        return any(needed in _INCLUDED[role] for role in matching) if matching else None


def _parsed(path: str, number: int, line: str) -> tuple[Role, str]:
    name, _, digest = line.partition(":")
    for role in get_args(Role):
        if name.strip() == role and len(digest.strip()) == 64:
            return role, digest.strip().lower()
    raise ConfigError(f"{path}, line {number}: expected role:sha256, role one of {', '.join(get_args(Role))}")


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
