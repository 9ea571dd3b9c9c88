"""Objects of `s3://`, `gs://` and `az://`: read, write, replace on a condition, list, delete; errors in one line.

Credentials and endpoints come from the usual environment variables (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`,
`GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME` ...).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from txrec.errors import StorageError
from txrec.storage import replace_file

SCHEMES = ("s3", "gs", "az")
_PART_BYTES = 16 << 20
_ENDPOINTS = {"s3": "AWS_ENDPOINT_URL", "gs": "GOOGLE_BASE_URL", "az": "AZURE_STORAGE_ENDPOINT"}
"""Variables that name another server than the provider's own."""
_ENDPOINT_OPTIONS = {"s3": "endpoint", "gs": "base_url", "az": "endpoint"}
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role of the machine; AWS_REGION; AWS_ENDPOINT_URL",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or a service account of the machine",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or a managed identity",
}


@dataclass(frozen=True)
class Entry:
    """An object as its store lists it."""

    key: str
    """Below the listed place, without a slash in front."""
    size: int
    """Bytes."""
    version: str
    """Changes with the content; the same in listings and after an upload."""
    changed: datetime
    """Time of modification by the store's clock."""


def is_uri(place: str | Path) -> bool:
    """True where a place lies in object storage."""
    return str(place).partition("://")[0] in SCHEMES and "://" in str(place)


def read(uri: str) -> tuple[bytes, str] | None:
    """Content of an object and the version that `replace` takes; None if there is none."""
    import obstore

    store, key = _store(uri)
    try:
        with _explained(uri):
            result = obstore.get(store, key)
            return bytes(result.bytes()), _condition(uri, result.meta)
    except FileNotFoundError:
        return None


def stat(uri: str) -> Entry | None:
    """An object without its content; None if there is none."""
    import obstore

    store, key = _store(uri)
    try:
        with _explained(uri):
            meta = obstore.head(store, key)
    except FileNotFoundError:
        return None
    return Entry("", meta["size"], _version(meta), meta["last_modified"])


def exists(uri: str) -> bool:
    """True where the object exists."""
    return stat(uri) is not None


def write(uri: str, content: bytes) -> str:
    """Writes an object; returns the version that `replace` takes."""
    import obstore

    store, key = _store(uri)
    with _explained(uri):
        return _condition(uri, obstore.put(store, key, content))


def replace(uri: str, content: bytes, version: str | None) -> str | None:
    """Writes an object if the store still holds the version that the caller read; one step for all writers.

    Args:
        uri: of the object.
        content: new content.
        version: that is to be replaced; None = there must be no object.

    Returns:
        The new version; None if somebody else was faster, and then nothing is written.
    """
    import obstore
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    store, key = _store(uri)
    try:
        with _explained(uri):
            condition: Any = "create" if version is None else {_condition_field(uri): version}
            return _condition(uri, obstore.put(store, key, content, mode=condition))
    except (AlreadyExistsError, PreconditionError, FileNotFoundError):
        return None


def delete(uri: str) -> None:
    """Deletes an object, if there is one."""
    import obstore

    store, key = _store(uri)
    try:
        with _explained(uri):
            obstore.delete(store, key)
    except FileNotFoundError:
        return


def listed(uri: str) -> list[Entry]:
    """All objects below a place, by key."""
    import obstore

    store, key = _store(uri)
    prefix = f"{key}/" if key else ""
    with _explained(uri):
        metas = [meta for batch in obstore.list(store, prefix=prefix or None) for meta in batch]
    metas = [meta for meta in metas if meta["path"].startswith(prefix)]  # not the empty object that Arrow keeps for it
    entries = (
        Entry(meta["path"].removeprefix(prefix), meta["size"], _version(meta), meta["last_modified"]) for meta in metas
    )
    return sorted(entries, key=lambda entry: entry.key)


def folders(uri: str) -> list[str]:
    """Names of the folders directly below a place."""
    import obstore

    store, key = _store(uri)
    prefix = f"{key}/" if key else ""
    with _explained(uri):
        prefixes = obstore.list_with_delimiter(store, prefix=prefix or None)["common_prefixes"]
    return sorted(name.rstrip("/").rpartition("/")[2] for name in prefixes)


def download(uri: str, target: Path) -> None:
    """Writes an object's content to a file, atomically.

    Raises:
        StorageError: there is no such object.
    """
    import obstore

    store, key = _store(uri)
    try:
        with _explained(uri), replace_file(target) as fresh, fresh.open("wb") as stream:
            for chunk in obstore.get(store, key).stream(min_chunk_size=_PART_BYTES):
                stream.write(chunk)
    except FileNotFoundError:
        raise StorageError(f"{uri}: not there any more; run the command again") from None


def upload(file: Path, uri: str) -> str:
    """Writes a file as an object, large ones in parts, all or nothing; returns `Entry.version`."""
    import obstore

    store, key = _store(uri)
    with _explained(uri), file.open("rb") as stream:
        return _version(obstore.put(store, key, stream, chunk_size=_PART_BYTES))


def arrow_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Arrow's file system for a URI and the path in it, with the same endpoint and credentials as everything here.

    `?options` at the end of an S3 URI (`endpoint_override`, `scheme`, `region`) are Arrow's own.

    Raises:
        StorageError: Azure without the name of its account.
    """
    plain, _, options = uri.partition("?")
    scheme, _, inner = plain.partition("://")
    endpoint = os.environ.get(_ENDPOINTS[scheme], "")
    if scheme == "s3" and endpoint and not options:
        protocol, _, host = endpoint.rstrip("/").partition("://")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        return pafs.S3FileSystem(endpoint_override=host, scheme=protocol, region=region), inner
    if scheme == "az":
        account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
        if not account:
            raise StorageError(f"{plain}: no credentials; set {_CREDENTIALS['az']}")
        return _azure_filesystem(account, endpoint), inner
    bucket = inner.partition("/")[0]  # from_uri must not see the glob characters of the rest
    system, _ = pafs.FileSystem.from_uri(f"{scheme}://{bucket}" + (f"?{options}" if options else ""))
    return system, inner


def _azure_filesystem(account: str, endpoint: str) -> pafs.FileSystem:
    """Arrow's file system of an Azure account; the endpoint of another cloud begins with the account's name."""
    options = {}
    if endpoint:
        protocol, _, rest = endpoint.partition("://")
        host = rest.partition("/")[0].removeprefix(account)
        options = {
            "blob_storage_authority": host,
            "dfs_storage_authority": host.replace(".blob.", ".dfs."),
            "blob_storage_scheme": protocol,
            "dfs_storage_scheme": protocol,
        }
    return pafs.AzureFileSystem(account, account_key=os.environ.get("AZURE_STORAGE_ACCOUNT_KEY"), **options)


def _version(meta: Any) -> str:
    """Azure's listings leave out the quotes of the entity tag."""
    return str(meta["e_tag"] or meta["version"] or "").strip('"')


def _condition(uri: str, meta: Any) -> str:
    return str(meta[_condition_field(uri)] or "")


def _condition_field(uri: str) -> str:
    """Google replaces by generation, the others by entity tag."""
    return "version" if uri.startswith("gs://") else "e_tag"


def _store(uri: str) -> tuple[Any, str]:
    scheme, _, inner = uri.partition("://")
    bucket, _, key = inner.partition("/")
    return _opened(scheme, bucket, os.environ.get(_ENDPOINTS[scheme], "")), key


@lru_cache(maxsize=32)
def _opened(scheme: str, bucket: str, endpoint: str) -> Any:
    try:
        from obstore.store import from_url
    except ImportError:
        extra = {"s3": "s3", "gs": "gcs", "az": "azure"}[scheme]
        raise StorageError(f"{scheme}://{bucket}: pip install 'txrec[{extra}]' to use object storage") from None
    options: Any = {"allow_http": True} if endpoint.startswith("http://") else {}
    settings: dict[str, Any] = {_ENDPOINT_OPTIONS[scheme]: endpoint} if endpoint else {}
    retries: Any = {"max_retries": 3}
    return from_url(f"{scheme}://{bucket}", client_options=options, retry_config=retries, **settings)


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Turns errors of the store into one line; objects that are missing or changed are the caller's to judge."""
    from obstore.exceptions import (
        AlreadyExistsError,
        BaseError,
        PermissionDeniedError,
        PreconditionError,
        UnauthenticatedError,
    )

    scheme = uri.partition("://")[0]
    try:
        yield
    except (AlreadyExistsError, PreconditionError):
        raise
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise StorageError(f"{uri}: access refused ({_reason(error)}); check {_CREDENTIALS[scheme]}") from None
    except BaseError as error:
        reason = _reason(error)
        missing = "credential" in reason.lower() or "169.254.169.254" in reason
        remedy = f"set {_CREDENTIALS[scheme]}" if missing else "check the bucket, the endpoint and the network"
        raise StorageError(f"{uri}: cannot be reached ({reason}); {remedy}") from None


def _reason(error: BaseException) -> str:
    """First line of a store's error without the addresses that it tried."""
    text = str(error)
    for code in ("NoSuchBucket", "ContainerNotFound", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"):
        if code in text:
            return code
    return text.splitlines()[0].strip()[:200] if text else type(error).__name__


def joined(uri: str, key: str) -> str:
    """URI of a key below a place; the place itself for the empty key."""
    return f"{uri}/{key}" if key else uri
