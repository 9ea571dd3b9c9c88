"""API keys with roles, kept as hashes.

A key file holds one key per line, `role:sha256-of-the-key`, or `role:sha256:name` to tell keys apart in the log; `#`
starts a comment. The environment variable `TXREC_API_KEYS` holds the same, separated by commas, for machines whose
secrets come that way; where both are set, the keys of both are valid. Roles: `read` requests slates, `events` also
reports events, `admin` may do everything. Without any key every caller may do everything: safe on loopback only.

    python -c "import secrets, hashlib; k = secrets.token_urlsafe(32); print(k, hashlib.sha256(k.encode()).hexdigest())"
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from txrec.errors import ConfigError

VARIABLE = "TXREC_API_KEYS"
Role = Literal["read", "events", "admin"]
_ROLES: tuple[Role, ...] = get_args(Role)  # each includes the ones before it
_LINE = re.compile(rf"({'|'.join(_ROLES)})\s*:\s*([0-9a-fA-F]{{64}})\s*(?::\s*([\w.@-]{{1,64}})\s*)?")


@dataclass(frozen=True)
class Key:
    """A known key.

    Attributes:
        role: its permissions.
        sha256: of the key, in hex.
        name: how the log calls it.
    """

    role: Role
    sha256: str
    name: str

    def may(self, needed: Role) -> bool:
        """True where its role includes another."""
        return _ROLES.index(needed) <= _ROLES.index(self.role)


ANYBODY = Key("admin", "", "")
"""Caller where no key is needed."""


@dataclass(frozen=True)
class Keys:
    """The known keys; without any, none is needed."""

    known: tuple[Key, ...] = ()

    @classmethod
    def read(cls, path: str, variable: str = "") -> "Keys":
        """Reads a key file and the value of the environment variable; both empty = no keys.

        Raises:
            ConfigError: no such file, no key in it, or a bad line; names the line, not its content.
        """
        return cls((*_from_file(path), *_from_variable(variable)))

    def find(self, key: str) -> Key | None:
        """The known key, None = unknown. Takes the same time for every key."""
        if not self.known:
            return ANYBODY
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        matching = [one for one in self.known if hmac.compare_digest(one.sha256, digest)]
        return max(matching, key=lambda one: _ROLES.index(one.role), default=None)


def _from_file(path: str) -> tuple[Key, ...]:
    if not path:
        return ()
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"serve.keys_file = {path!r}: {error.strerror}") from None
    keys = _parsed(lines, f"{path}, line")
    if not keys:
        raise ConfigError(f"serve.keys_file = {path!r}: holds no key; leave the setting empty to need none")
    return keys


def _from_variable(value: str) -> tuple[Key, ...]:
    keys = _parsed(value.split(","), f"{VARIABLE}, entry")
    if value and not keys:
        raise ConfigError(f"{VARIABLE}: holds no key; unset it to need none")
    return keys


def _parsed(lines: Iterable[str], place: str) -> tuple[Key, ...]:
    stripped = [(number, line.partition("#")[0].strip()) for number, line in enumerate(lines, start=1)]
    return tuple(_key(f"{place} {number}", line) for number, line in stripped if line)


def _key(place: str, line: str) -> Key:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ConfigError(
            f"{place}: expected role:sha256 or role:sha256:name, role one of {', '.join(_ROLES)}, the hash in hex"
        )
    role = next(role for role in _ROLES if role == match[1])
    return Key(role, match[2].lower(), match[3] or role)
