"""Rendering of HTML reports from the templates in `txrec/report/templates`.

    base.html.j2          document, style, title, lead, content, footer: every report extends it
    components.html.j2    macros: tiles, tables, figures
    data_report.html.j2   one template per report

Values are escaped unless they are `Markup`; a name that a template uses and the caller left out is an error.
"""

from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup


def render(template: str, **values: Any) -> str:
    """One report as HTML text.

    Args:
        template: file name in `txrec/report/templates`.
        **values: the template's variables; strings are escaped.

    Raises:
        jinja2.UndefinedError: a variable that the template needs is missing.
    """
    return _environment().get_template(template).render(**values)


def markup(text: str) -> Markup:
    """HTML or SVG that txrec made itself and that must not be escaped."""
    return Markup(text)  # noqa: S704 - only drawn figures pass here, never data of the shop


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("txrec.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thousands"] = "{:,}".format
    environment.filters["percent"] = "{:.1%}".format
    return environment
