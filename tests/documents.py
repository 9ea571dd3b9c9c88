"""The Markdown documents of the repository and what can be checked in them: code blocks, commands, requests."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w*) *(?P<rest>[^\n]*)\n(?P<text>.*?)^(?P=indent)```", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced code block: the file it is in, its language, its title and its text."""

    file: Path
    language: str
    title: str
    text: str

    @property
    def where(self) -> str:
        """File and first line, for messages."""
        return f"{self.file.relative_to(ROOT)}: {self.text.splitlines()[0] if self.text else ''}"


@dataclass(frozen=True)
class HttpRequest:
    """A request that a curl command makes."""

    method: str
    path: str
    body: str | None


def blocks(file: Path) -> list[Block]:
    """Fenced code blocks of a document."""
    return [
        Block(
            file,
            match["language"],
            (re.findall(r'title="([^"]*)"', match["rest"]) or [""])[0],
            re.sub(f"^{match['indent']}", "", match["text"], flags=re.M),
        )
        for match in _BLOCK.finditer(file.read_text(encoding="utf-8"))
    ]


def all_blocks(language: str | None = None) -> list[Block]:
    """Fenced code blocks of all documents, or those of one language."""
    return [block for file in DOCUMENTS for block in blocks(file) if language in (None, block.language)]


def shell_commands(block: Block) -> Iterator[list[str]]:
    """Words of every command of a block, continued lines joined, comments and prompts removed."""
    text = re.sub(r"\\\n\s*", " ", block.text)
    for line in _logical_lines(text):
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words:
            yield words


def _logical_lines(text: str) -> Iterator[str]:
    """Lines, joined while a quote is open."""
    pending = ""
    for line in text.splitlines():
        pending = f"{pending}\n{line}" if pending else line
        try:
            shlex.split(pending, comments=True)
        except ValueError:
            continue
        yield pending
        pending = ""


def http_request(words: list[str]) -> HttpRequest:
    """The request that `curl` with these arguments makes."""
    method, body, address = None, None, ""
    arguments = iter(words[1:])
    for word in arguments:
        if word in ("-X", "--request"):
            method = next(arguments)
        elif word in ("-d", "--data"):
            body = next(arguments)
        elif word in ("-H", "--header", "-o", "-w"):
            next(arguments)
        elif not word.startswith("-"):
            address = word
    path = re.sub(r"^(https?://)?[^/]+", "", address)
    return HttpRequest(method or ("POST" if body else "GET"), path, body)
