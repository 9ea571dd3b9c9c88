"""MkDocs hook: adds the reference pages that are generated from the code to every build.

Configuration, command line and HTTP reference are written by `docs/reference_pages.py` and exist only in the build.
"""

import runpy
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files


@event_priority(100)  # before the plugin that lays out the navigation
def on_files(files: Files, /, *, config: MkDocsConfig) -> Files:
    """Adds one generated page per reference."""
    generator = runpy.run_path(str(Path(config.docs_dir) / "reference_pages.py"))
    for path, write in generator["PAGES"].items():
        files.append(File.generated(config, path, content=write()))
    return files
