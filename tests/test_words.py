"""Plain words: docstrings begin with what they name, and variables are nouns."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.documents import ROOT

PACKAGES = ("txrec", "pipelines", "serve", "bench")
CLAUSE = re.compile(r"(What|Who|Whose|Whom|Whoever|How|Whether|That|Why|Where|When|Which)\b")
PARTICIPLES = frozenset({"asked", "found", "given", "told", "wanted"})
PRONOUNS = frozenset({"mine", "ours", "theirs"})
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def clauses(source: str) -> list[str]:
    """First lines of docstrings, those of fields included, that are relative clauses instead of nouns."""
    return [line for line in _first_lines(ast.parse(source)) if CLAUSE.match(line)]


def _first_lines(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in node.body:
                match statement:
                    case ast.Expr(ast.Constant(str(text))):
                        yield text.strip().partition("\n")[0]


def bare_words(source: str) -> list[str]:
    """Variables, arguments and functions whose whole name is a participle or a possessive pronoun."""
    names = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(name, ast.Store()) | ast.arg(name) | ast.Attribute(_, name, ast.Store()):
                names.append(name)
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name):
                names.append(name)
    return [name for name in names if name.strip("_") in PARTICIPLES | PRONOUNS]


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_begin_with_a_noun_and_not_with_a_clause(package: str) -> None:
    modules = [path for path in MODULES if path.is_relative_to(ROOT / package)]
    assert modules
    assert _all_of(modules, clauses) == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_variable_is_called_by_a_participle_or_a_pronoun_alone(package: str) -> None:
    modules = [path for path in MODULES if path.is_relative_to(ROOT / package)]
    assert modules
    assert _all_of(modules, bare_words) == {}


def _all_of(modules: list[Path], check: Callable[[str], list[str]]) -> dict[str, list[str]]:
    by_module = {str(path.relative_to(ROOT)): check(path.read_text(encoding="utf-8")) for path in modules}
    return {name: lines for name, lines in by_module.items() if lines}


def test_the_checks_see_modules_classes_functions_fields_and_every_kind_of_name() -> None:
    source = '''
"""What a module holds."""
class A:
    """Whether it is one."""
    field: int
    """How many."""
    def given(self, asked):
        """Who."""
        self.told, wanted = asked, [found for found in ()]
        mine, ours, theirs = asked
'''
    assert len(clauses(source)) == 4
    assert set(bare_words(source)) == PARTICIPLES | PRONOUNS
    assert clauses('"""Whatsoever, a noun."""') == []
