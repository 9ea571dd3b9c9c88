"""`txrec init`: a commented configuration written from a shop's files, and the tables detected in them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from txrec.data.detection.declaration import Declaration, declare
from txrec.errors import ConfigError
from txrec.storage import require_writable, write_text


@dataclass(frozen=True)
class Initialised:
    """A written configuration."""

    path: Path
    declaration: Declaration

    def render(self) -> RenderableType:
        """Terminal view of the detected tables, the open questions, and the next commands."""
        table = Table(title="Files", title_justify="left", header_style="bold")
        for name in ("file", "read as", "columns"):
            table.add_column(name, overflow="fold")
        for one in self.declaration.tables:
            columns = "\n".join(
                f"{role} = {name} [dim]({one.remarks.get(role, '').partition(':')[0]})"
                for role, name in one.columns.items()
            )
            table.add_row(one.sample.path, "not used" if one.kind == "other" else one.kind, columns)
        parts: list[RenderableType] = [table]
        if self.declaration.check is not None:
            parts.append(self.declaration.check.render())
        parts += [Text(f"question: {question}", style="yellow") for question in self.declaration.questions]
        parts.append(Text(f"wrote {self.path}; next: txrec prepare --check {self.path}, then txrec demo {self.path}"))
        return Group(*parts)


def run(files: Sequence[str], out: Path, force: bool = False) -> Initialised:
    """Looks at the files and writes the configuration.

    Args:
        files: paths, folders or globs.
        out: the TOML file; the run is named after it.
        force: whether a file that is there is replaced.

    Raises:
        ConfigError: the configuration is there already.
        DataError: a file is missing or is no table.
        StorageError: the configuration cannot be written.
    """
    if out.exists() and not force:
        raise ConfigError(f"{out}: is there already; choose another place by --out, or replace it by --force")
    require_writable(out)
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", out.stem).strip("-") or "shop"
    declaration = declare(files, name)
    write_text(out, declaration.text)
    return Initialised(out, declaration)
