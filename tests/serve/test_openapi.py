"""Generated requests against the OpenAPI document: no 5xx, no answer that it does not describe."""

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serve.ingress import create_app
from serve.local import LocalService
from tests.serve.fake import open_fake

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(LocalService(*open_fake())))


@pytest.mark.slow
@schema.parametrize()
@hypothesis.settings(
    max_examples=25, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck), deadline=None
)
def test_generated_requests_get_documented_answers(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=CHECKS)
