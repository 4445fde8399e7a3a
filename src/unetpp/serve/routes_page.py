"""Routes of the page and its files, and of the page of the API: nothing is fetched from elsewhere."""

from __future__ import annotations

import functools
import mimetypes
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Response
from starlette.responses import HTMLResponse

from unetpp.report.colors import THEME
from unetpp.serve.problems import Refused

_TYPES = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain", ".svg": "image/svg+xml"}
WEB = files("unetpp.serve").joinpath("web")


router = APIRouter(include_in_schema=False)


@router.get("/")
def show_page() -> HTMLResponse:
    return HTMLResponse(WEB.joinpath("index.html").read_text(encoding="utf-8"), headers={"Cache-Control": "no-cache"})


@router.get("/docs")
def show_docs() -> HTMLResponse:
    return HTMLResponse(WEB.joinpath("docs.html").read_text(encoding="utf-8"))


@router.get("/web/theme.css")
def show_theme() -> Response:
    return Response(write_theme(), media_type="text/css")


@router.get("/web/{path:path}")
def show_file(path: str) -> Response:
    known = _list_page()
    if path not in known:
        raise Refused(404, "file", repr(path[:80]), "a file of the page", "")
    suffix = f".{path.rpartition('.')[2]}"
    kind = _TYPES.get(suffix) or mimetypes.guess_type(path)[0] or "application/octet-stream"
    cache = "public, max-age=86400" if path.startswith("vendor/") else "no-cache"
    return Response(known[path].read_bytes(), media_type=kind, headers={"Cache-Control": cache})


@router.get("/favicon.ico")
def show_icon() -> Response:
    return Response(WEB.joinpath("icon.svg").read_bytes(), media_type="image/svg+xml")


def write_theme() -> str:
    """Write the colors of the report, light and dark, as style sheet."""
    light, dark = ("".join(f"--{name}: {colors[number]}; " for name, colors in THEME.items()) for number in (0, 1))
    return (
        f":root {{ color-scheme: light dark; {light}}}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}\n"
    )


@functools.cache
def _list_page() -> dict[str, Traversable]:
    return _list_files(WEB)


def _list_files(folder: Traversable, prefix: str = "") -> dict[str, Traversable]:
    """List the files of the page by their path: no other file can be asked for."""
    found: dict[str, Traversable] = {}
    for entry in folder.iterdir():
        name = f"{prefix}{entry.name}"
        found |= _list_files(entry, f"{name}/") if entry.is_dir() else {name: entry}
    return found
