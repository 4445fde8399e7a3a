"""JSON: read as anybody may have written it, bounded in size and depth; written for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LARGEST = 2**30
"""Largest JSON file that is read, in bytes."""
WIDTH = 100
"""Width of lines that people read."""


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON in UTF-8, too large, or nested too deeply.
    """
    size = path.stat().st_size
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError("it is a pipe or a device")  # opening it would wait for ever
    if size > LARGEST:
        raise ValueError(f"{size / 1e6:,.0f} MB; JSON of up to {LARGEST / 1e6:,.0f} MB is read")
    return parse_json(path.read_text(encoding="utf-8-sig"))


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; raises ValueError if it is none, or nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


def format_json(value: Any, indent: str = "") -> str:
    """Write JSON for people: two spaces for each level, and lists that fit on a line on one.

    Args:
        value: dictionaries, lists, texts, finite numbers.
        indent: spaces before the line on which the value begins.
    """
    flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not value or not isinstance(value, dict | list) or (isinstance(value, list) and len(indent + flat) <= WIDTH):
        return flat
    inner = f"{indent}  "
    if isinstance(value, list):
        lines = [format_json(each, inner) for each in value]
    else:
        lines = [f"{json.dumps(key, ensure_ascii=False)}: {format_json(each, inner)}" for key, each in value.items()]
    opening, closing = "[]" if isinstance(value, list) else "{}"
    return f",\n{inner}".join([f"{opening}\n{inner}{lines[0]}", *lines[1:]]) + f"\n{indent}{closing}"
