"""Reading of JSON that anybody may have written: bounded in size and depth, and never anything but a ValueError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LARGEST = 2**30
"""Largest JSON file that is read, in bytes."""


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
