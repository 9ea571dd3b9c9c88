"""Collection of tests: every process of one run collects the same names, and each test has its own."""

import ast
from collections.abc import Iterator

import pytest

from tests.conftest import REPEATED
from tests.documents import ROOT

CLOCKS = frozenset({"time", "time_ns", "monotonic", "perf_counter", "now", "utcnow", "today", "localtime", "gmtime"})
RANDOM = frozenset({"uuid1", "uuid4", "token_hex", "token_urlsafe", "getrandbits", "randint", "random", "getpid"})


def varying_calls(source: str) -> list[str]:
    """Calls that are made on import and give another value in each process: clocks, random numbers, process ids."""
    return [ast.unparse(call) for call in _calls_on_import(ast.parse(source)) if _name(call) in CLOCKS | RANDOM]


def _name(call: ast.Call) -> str:
    match call.func:
        case ast.Attribute(_, name) | ast.Name(name):
            return name
    return ""


def _calls_on_import(node: ast.AST) -> Iterator[ast.Call]:
    """Calls outside the bodies of functions; decorators and defaults of arguments are evaluated on import."""
    for field, value in ast.iter_fields(node):
        if field == "body" and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.Call):
                yield child
            if isinstance(child, ast.AST):
                yield from _calls_on_import(child)


def test_no_module_of_tests_reads_a_clock_or_draws_at_random_when_it_is_collected() -> None:
    modules = sorted((ROOT / "tests").rglob("*.py"))
    found = {str(path.relative_to(ROOT)): varying_calls(path.read_text(encoding="utf-8")) for path in modules}
    assert {path: calls for path, calls in found.items() if calls} == {}


def test_a_clock_in_a_parameter_is_found_and_one_inside_a_test_is_not() -> None:
    source = (
        "@pytest.mark.parametrize('ts', [int(time.time())])\n"
        "def test_a(ts, key=uuid4()):\n    assert time.monotonic()\nDAY = datetime.now()\n"
    )
    assert varying_calls(source) == ["uuid4()", "time.time()", "datetime.now()"]


def test_no_two_tests_have_the_same_name(request: pytest.FixtureRequest) -> None:
    assert request.config.stash[REPEATED] == []
