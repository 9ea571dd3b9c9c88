"""Reports rendered from templates."""

import jinja2
import pytest

from txrec.report import page


@pytest.fixture
def templates(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = page._environment()
    source = (
        '{% extends "base.html.j2" %}{% import "components.html.j2" as ui %}{% block title %}{{ name }}{% endblock %}'
        '{% block content %}{{ ui.table(["system", "ndcg"], [["txrec", "<b>"]], own="txrec") }}'
        '{{ ui.figures([("shares", svg), ("none", "")]) }}{% endblock %}'
    )
    loader = jinja2.ChoiceLoader([jinja2.DictLoader({"test.html.j2": source}), environment.loader])  # type: ignore[list-item]  # it has one
    monkeypatch.setattr(environment, "loader", loader)


def test_text_of_the_shop_is_escaped_and_drawn_figures_are_not(templates: None) -> None:
    text = page.render("test.html.j2", name="<script>alert(1)</script>", svg=page.markup("<svg></svg>"))
    assert "<script>" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2  # title and heading
    assert '<td class="n">&lt;b&gt;</td>' in text
    assert "<svg></svg>" in text
    assert text.count("nothing to show") == 1
    assert '<tr class="own">' in text


def test_a_report_needs_no_network_and_no_script(templates: None) -> None:
    text = page.render("test.html.j2", name="shop", svg="")
    assert text.lstrip().startswith("<!doctype html>")
    for word in ("http://", "https://", "<script", "<link"):
        assert word not in text


def test_a_variable_that_was_left_out_is_an_error(templates: None) -> None:
    with pytest.raises(jinja2.UndefinedError, match="svg"):
        page.render("test.html.j2", name="shop")
