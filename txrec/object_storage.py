"""Object storage: runs at `s3://`, `gs://` or `az://`, each machine with a working copy of the files that it uses.

A place is a local path or a URI. The working copy of a URI lies below the cache folder, `TXREC_CACHE` or
`~/.cache/txrec`:

    objects/s3/BUCKET/KEY     files as in the store
    states/s3/BUCKET/KEY      per file: version in the store, size and time of modification when both were equal
    blobs/SHA256              files of bundles by checksum; see `txrec.registry.bundle_cache`

`fetch` makes the working copy like the store and `share` the store like the working copy; for other paths both do
nothing. In a folder the file that stands for its completeness (`MARKERS`) goes first and comes last, so an interrupted
upload leaves no folder that a reader would take for whole. Credentials and endpoints come from the usual environment
variables (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME` ...).
"""

import fcntl
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from txrec import objects
from txrec.errors import InvariantError, StorageError
from txrec.storage import make_folder, write_text

MARKERS = ("meta.json", "manifest.json", "metrics.json", "job.json", "vectors.safetensors", "training.json")
"""Names of the files that stand for a complete folder."""


@dataclass(frozen=True)
class _State:
    """A file when working copy and store were equal."""

    version: str
    size: int
    mtime_ns: int


def local_path(place: str | Path) -> Path:
    """Path of a place on this machine: itself, or that of the working copy of a URI.

    Raises:
        StorageError: a URI of another scheme, or without a bucket.
    """
    text = str(place)
    if "://" not in text:
        return Path(place)
    scheme, _, inner = text.rstrip("/").partition("://")
    if scheme not in objects.SCHEMES or not inner or ".." in inner.split("/"):
        raise StorageError(f"{place}: expected a local path, or s3://, gs:// or az:// with the name of a bucket")
    return cache_folder() / "objects" / scheme / inner


def uri_of(path: Path) -> str | None:
    """URI that a path of this machine is the working copy of; None for every other path."""
    root = cache_folder() / "objects"
    if not path.is_relative_to(root):
        return None
    scheme, *rest = path.relative_to(root).parts
    return f"{scheme}://{'/'.join(rest)}"


def place_of(path: Path) -> str:
    """The name of a place that means the same on every machine: the URI, or the absolute path."""
    return uri_of(path) or str(path.absolute())


def cache_folder() -> Path:
    """Folder of working copies on this machine."""
    return Path(os.environ.get("TXREC_CACHE") or Path.home() / ".cache" / "txrec").absolute()


def fetch(path: Path) -> Path:
    """Makes a file or folder of a working copy like the store; returns it. Local files never shared stay.

    Raises:
        StorageError: the store does not answer, or refuses.
    """
    uri = uri_of(path)
    if uri is None:
        return path
    with _locked(uri):
        entries = _entries(uri)
        stale = [file for file in _known_files(path) if file not in {path / key for key in entries}]
        changed = [key for key, entry in entries.items() if not _is_current(path / key, entry)]
        for file in sorted(stale, key=lambda file: file.name not in MARKERS):
            file.unlink(missing_ok=True)
            _state_file(file).unlink(missing_ok=True)
        for key in changed:
            if _is_marker(key):
                (path / key).unlink(missing_ok=True)
        for key in sorted(changed, key=_is_marker):
            _download(path / key, entries[key])
    return path


def share(path: Path) -> None:
    """Makes the store like a file or folder of a working copy, completeness markers last.

    Raises:
        StorageError: the store does not answer, or refuses.
    """
    uri = uri_of(path)
    if uri is None:
        return
    with _locked(uri):
        entries = _entries(uri)
        files = {str(file.relative_to(path)) if file != path else "": file for file in _files(path)}
        changed = [key for key, file in files.items() if key not in entries or not _is_current(file, entries[key])]
        stale = [key for key in entries if key not in files]
        if not changed and not stale:
            return
        for key in filter(_is_marker, entries):
            objects.delete(objects.joined(uri, key))
            changed += [key] if key in files and key not in changed else []
        for key in stale:
            objects.delete(objects.joined(uri, key))
        for key in sorted(changed, key=_is_marker):
            _upload(files[key])


def require_seen(path: Path, setting: str) -> None:
    """Raises StorageError if a path that another machine wrote is not seen here."""
    if not path.exists():
        host = socket.gethostname()
        raise StorageError(
            f"{place_of(path)}: not there on the machine {host}, which shares no storage with the one that wrote it;"
            f" set {setting} to object storage (s3://, gs://, az://) or to a folder that every machine mounts"
        )


def remove(path: Path) -> None:
    """Removes a file or folder here and, for a working copy, in the store; markers of completeness first."""
    uri = uri_of(path)
    if uri is not None:
        keys = [entry.key for entry in objects.listed(uri)] or [""]
        for key in sorted(keys, key=_is_marker, reverse=True):
            objects.delete(objects.joined(uri, key))
        shutil.rmtree(_state_file(path), ignore_errors=True)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Excludes other processes of this machine that use the same name."""
    file = cache_folder() / "locks" / hashlib.sha256(name.encode()).hexdigest()[:24]
    make_folder(file.parent)
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _locked(uri: str) -> Any:
    return lock("/".join(uri.split("/")[:5]))  # one lock per run: parts of a folder and the folder exclude each other


def _is_marker(key: str) -> bool:
    return Path(key).name in MARKERS


def _entries(uri: str) -> dict[str, objects.Entry]:
    """Visible objects below a place by key, or the object itself under the empty key."""
    entries = {entry.key: entry for entry in objects.listed(uri) if not Path(entry.key).name.startswith(".")}
    alone = None if entries else objects.stat(uri)
    return entries if alone is None else {"": alone}


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")]


def _known_files(path: Path) -> list[Path]:
    """Files of a working copy that the store held when they were compared last."""
    root, states = cache_folder() / "objects", cache_folder() / "states"
    return [root / file.relative_to(states) for file in _files(_state_file(path))]


def _state_file(path: Path) -> Path:
    return cache_folder() / "states" / path.relative_to(cache_folder() / "objects")


def _is_current(file: Path, entry: objects.Entry) -> bool:
    state = _state_file(file)
    if not (state.is_file() and file.is_file()):
        return False
    known = _State(**json.loads(state.read_text(encoding="utf-8")))
    status = file.stat()
    return (known.version, known.size, known.mtime_ns) == (entry.version, status.st_size, status.st_mtime_ns)


def _remember(file: Path, version: str) -> None:
    status = file.stat()
    write_text(_state_file(file), json.dumps(asdict(_State(version, status.st_size, status.st_mtime_ns))))


def _download(file: Path, entry: objects.Entry) -> None:
    objects.download(_required_uri(file), file)
    _remember(file, entry.version)


def _upload(file: Path) -> None:
    _remember(file, objects.upload(file, _required_uri(file)))


def _required_uri(file: Path) -> str:
    uri = uri_of(file)
    if uri is None:
        raise InvariantError(f"{file} is no working copy of a file in object storage")
    return uri
