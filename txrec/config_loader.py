"""Configuration loading: TOML files and dotted overrides to a validated `Config`, with errors that name the key."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from txrec.config import CHECKPOINT, Config
from txrec.errors import ConfigError


def load(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Reads a TOML file and lays `dotted.key=value` overrides over it.

    A value is read as TOML (`5`, `1e-3`, `true`, `[1, 2]`, `"text"`); any other text, and a date, is a string.

    Raises:
        ConfigError: no such file, bad TOML, unknown key (names the nearest) or bad value (names the allowed ones).
    """
    file = Path(path)
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(_no_such_file(file)) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read as TOML: {error}") from None
    origin: dict[str, str] = {}
    for override in overrides:
        _apply(tree, override, origin)
    return parse(tree, str(file), origin)


def parse(tree: Mapping[str, Any], source: str, origin: Mapping[str, str] | None = None) -> Config:
    """Validates a plain tree; `origin` says which dotted keys came from elsewhere than `source`."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        where = (origin or {}).get(key, source)
        raise ConfigError(_explain(where, key, first)) from None


def with_absolute_paths(config: Config) -> Config:
    """The same tree with local paths made absolute from the working directory of this process; URIs stay.

    To be called once, in the process that the user started: workers run in folders of their own, where a relative path
    means another place.
    """
    encoder = config.text.encoder
    if encoder.startswith(CHECKPOINT):
        encoder = CHECKPOINT + _absolute(encoder.removeprefix(CHECKPOINT))
    paths: dict[str, Any] = {
        "runs_root": _absolute(config.runs_root),
        "data.root": _absolute(config.data.root),
        "text.encoder": encoder,
        "serve.state": _absolute(config.serve.state),
        "serve.keys_file": _absolute(config.serve.keys_file),
    }
    if config.text.synonyms is not None:
        paths["text.synonyms"] = _absolute(str(config.text.synonyms))
    return with_overrides(config, paths)


def _absolute(path: str) -> str:
    return path if not path or "://" in path else str(Path(path).expanduser().absolute())


def with_overrides(config: Config, overrides: Mapping[str, Any]) -> Config:
    """A new tree with some dotted keys replaced, validated again (used by hyperparameter search)."""
    tree = config.model_dump(mode="python")
    for key, value in overrides.items():
        _set(tree, key, value)
    return parse(tree, "overrides")


def _apply(tree: dict[str, Any], override: str, origin: dict[str, str]) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override {override!r}: expected dotted.key=value, e.g. train.max_epochs=5")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    if isinstance(value, date | time):  # the tree keeps instants as text
        value = text.strip()
    _set(tree, key.strip(), value)
    origin[key.strip()] = "command line"


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    node: Any = tree
    *parents, leaf = key.split(".")
    for parent in parents:
        node = node[int(parent)] if isinstance(node, Sequence) else node.setdefault(parent, {})
        if not isinstance(node, dict | list):
            raise ConfigError(f"override {key}: {parent} is a value, not a section")
    node[leaf] = value


def _explain(where: str, key: str, error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        known = _keys_beside(key)
        nearest = difflib.get_close_matches(key.rsplit(".", 1)[-1], known, n=1, cutoff=0.0)
        prefix = key.rpartition(".")[0]
        hint = f"did you mean {prefix + '.' if prefix else ''}{nearest[0]}?" if nearest else ""
        return f"{where}: unknown key {key}; {hint} known here: {', '.join(sorted(known))}"
    if error["type"] == "missing":
        return f"{where}: {key} is required and missing"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"{where}: {key} = {error['input']!r}: {message}"


def _keys_beside(key: str) -> list[str]:
    """Names of the section that an unknown key was written in."""
    section: Any = Config
    for part in key.split(".")[:-1]:
        if part.isdigit() or not (isinstance(section, type) and issubclass(section, BaseModel)):
            continue
        annotation = section.model_fields[part].annotation if part in section.model_fields else None
        section = _section_in(annotation) or section
    return list(section.model_fields)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        section = _section_in(inner)
        if section:
            return section
    return None


def _no_such_file(file: Path) -> str:
    siblings = sorted(path.name for path in file.parent.glob("*.toml")) if file.parent.is_dir() else []
    hint = f"; {file.parent} has {', '.join(siblings)}" if siblings else ""
    return f"{file}: no such configuration file{hint}"
