"""Pages as HTML, from the templates of this package, which share their style and tables."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from unetpp.report.colors import THEME


def render_page(template: str, **content: Any) -> str:
    """Fill a template of this package.

    Args:
        template: name of its file.
        content: what it shows; texts are escaped.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(theme=THEME, **content)


def _read(name: str) -> str:
    return files("unetpp.report").joinpath(name).read_text(encoding="utf-8")
