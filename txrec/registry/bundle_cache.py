"""Bundles of object storage on this machine: each file fetched once, kept by its checksum, verified, pruned.

    CACHE/blobs/SHA256                        files of bundles
    CACHE/objects/SCHEME/.../registry/v3/     a bundle: hard links to its files, and its manifest

All processes of a machine share it, so that any number of replicas downloads a version once, and versions that have
files in common (a text encoder, say) store them once. Of each registry the bundles that were opened last are kept.
"""

import os
import shutil
from pathlib import Path

from txrec import object_storage, objects
from txrec.errors import BundleError, StorageError
from txrec.recommender.bundle import MANIFEST, Manifest, read_manifest, sha256
from txrec.storage import replace_file

KEPT_BUNDLES = 4
"""Bundles per registry that stay on a machine; production, canary, shadow and one more."""
_OPENED = ".opened"


def bring(path: Path) -> Path:
    """Folder of a bundle, fetched first if it is the working copy of one in object storage.

    Raises:
        BundleError: there is no bundle, or a file does not have the checksum of the manifest.
        StorageError: the store does not answer.
    """
    uri = object_storage.uri_of(path)
    if uri is None:
        return path
    with object_storage.lock(uri):
        content = objects.read(f"{uri}/{MANIFEST}")
        if content is None:
            raise BundleError(f"{uri}: no bundle here ({MANIFEST} is missing); run `txrec publish CONFIG`")
        target = path / MANIFEST
        if not (target.is_file() and target.read_bytes() == content[0]):
            shutil.rmtree(path, ignore_errors=True)
            with replace_file(path.parent / f".{path.name}.{MANIFEST}") as fresh:
                fresh.write_bytes(content[0])
            manifest_file = path.parent / f".{path.name}.{MANIFEST}"
            _link_files(uri, path, read_manifest(manifest_file))
            manifest_file.replace(target)
        (path / _OPENED).touch()
    _prune(path.parent, keep=path)
    return path


def _link_files(uri: str, path: Path, manifest: Manifest) -> None:
    for name, checksum in manifest.files.items():
        blob = _blobs() / checksum
        if not blob.is_file() or sha256(blob) != checksum:
            _fetch_blob(f"{uri}/{name}", blob, checksum)
        link = path / name
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(blob, link)


def _fetch_blob(uri: str, blob: Path, checksum: str) -> None:
    try:
        with replace_file(blob) as fresh:
            objects.download(uri, fresh)
            actual = sha256(fresh)
            if actual != checksum:
                raise BundleError(
                    f"{uri}: damaged, sha256 is {actual[:12]}..., the manifest has {checksum[:12]}...; publish it anew"
                )
    except StorageError as error:
        raise BundleError(f"{uri}: listed in the manifest, but cannot be fetched: {error}") from None


def _blobs() -> Path:
    return object_storage.cache_folder() / "blobs"


def _prune(registry: Path, keep: Path) -> None:
    """Removes the bundles of a registry that were opened longest ago, and files that no bundle has any more."""
    with object_storage.lock("blobs"):
        opened = [marker.parent for marker in registry.glob(f"*/{_OPENED}")]
        newest = sorted(opened, key=lambda folder: (folder / _OPENED).stat().st_mtime_ns, reverse=True)
        for folder in newest[KEPT_BUNDLES:]:
            if folder != keep:
                shutil.rmtree(folder)
        for blob in _blobs().iterdir() if newest[KEPT_BUNDLES:] else ():
            if blob.stat().st_nlink == 1 and not blob.name.startswith("."):
                blob.unlink()
