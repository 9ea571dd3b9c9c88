"""Places of a run's bundles by their names."""

from pathlib import Path

from txrec import object_storage, objects
from txrec.config import Config
from txrec.registry import bundle_cache
from txrec.registry.registry import Registry


def bundle_folder(config: Config, name: str) -> Path:
    """Folder of `candidate`, `production`, a registered version, or of a bundle anywhere, object storage included."""
    if name == "candidate":
        return config.candidate_dir
    if name == "production":
        return Registry(config.registry_dir).folder()
    folder = object_storage.local_path(name)
    if objects.is_uri(name):
        return bundle_cache.bring(folder)
    return folder if folder.is_dir() else Registry(config.registry_dir).folder(name)
