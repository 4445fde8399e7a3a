"""Pages as HTML, from the templates of this package, which share their style and tables."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from unetpp.report.colors import THEME

if TYPE_CHECKING:
    from jinja2 import Environment


def render_page(template: str, **content: Any) -> str:
    """Fill a template of this package.

    Args:
        template: name of its file.
        content: what it shows; texts are escaped.
    """
    return _make_environment().get_template(template).render(theme=THEME, **content)


@cache
def _make_environment() -> Environment:
    """Make what fills templates, and compiles each once: a training writes two pages, a watched one many."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        loader=FunctionLoader(_read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _read(name: str) -> str:
    return files("unetpp.report").joinpath(name).read_text(encoding="utf-8")
