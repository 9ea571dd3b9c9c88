"""Generated requests against the OpenAPI document: no 5xx, no answer that it does not describe.

Two kinds: values drawn at random from the whole document, and each boundary of each field in turn. Expressions of
filters nest without end, and their boundaries multiply at each level (46,000 requests for rules alone); for the
boundaries they nest once.
"""

from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.config import (
    CoveragePhaseConfig,
    ExamplesPhaseConfig,
    FuzzingPhaseConfig,
    PhasesConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serve.ingress import create_app
from serve.local_service import LocalService
from tests.serve.fake import open_fake

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXPRESSIONS = ("And", "Or", "Not")

pytestmark = pytest.mark.slow


def nested_once(document: Any) -> Any:
    """The document with operands of filter expressions that are conditions only."""
    schemas = document["components"]["schemas"]
    for kind in EXPRESSIONS:
        (operands,) = schemas[f"{kind}-Input"]["properties"].values()
        operands = operands.get("items", operands)
        plain = [one for one in operands["anyOf"] if not _is_expression(one)]
        assert 0 < len(plain) < len(operands["anyOf"])
        operands["anyOf"] = plain
    return document


def _is_expression(operand: dict[str, str]) -> bool:
    return any(operand.get("$ref", "").endswith(f"/{kind}-Input") for kind in EXPRESSIONS)


def application(phases: PhasesConfig, nested: bool) -> BaseSchema:
    """The application and its document, to be asked in some phases of schemathesis."""
    app = create_app(LocalService(*open_fake()))
    if not nested:
        nested_once(app.openapi())  # the application keeps its document
    config = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(phases=phases)))
    return schemathesis.openapi.from_asgi("/openapi.json", app, config=config)


NOTHING = PhasesConfig(
    examples=ExamplesPhaseConfig(enabled=False),
    coverage=CoveragePhaseConfig(enabled=False),
    fuzzing=FuzzingPhaseConfig(enabled=False),
)
drawn = application(PhasesConfig(coverage=NOTHING.coverage), nested=True)
boundaries = application(PhasesConfig(examples=NOTHING.examples, fuzzing=NOTHING.fuzzing), nested=False)


@drawn.parametrize()
@hypothesis.settings(
    max_examples=10, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck), deadline=None
)
def test_drawn_requests_get_documented_answers(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=CHECKS)


@boundaries.parametrize()
@hypothesis.settings(suppress_health_check=list(hypothesis.HealthCheck), deadline=None)
def test_the_boundaries_of_every_field_get_documented_answers(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=CHECKS)
