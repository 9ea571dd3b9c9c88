"""Markers of the tests that need services: no part of `make test` leaves one out."""

import pytest

from tests.conftest import UNNAMED


def test_files_of_tests_with_services_name_the_marker_or_the_fixture(request: pytest.FixtureRequest) -> None:
    assert request.config.stash[UNNAMED] == []
