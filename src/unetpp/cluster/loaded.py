"""What a worker has loaded: a model once for each process, however many cases it gets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import TypeVar, cast

_Loaded = TypeVar("_Loaded")
_LOCK = threading.Lock()
_KEPT: dict[Hashable, object] = {}


def load_once(key: Hashable, load: Callable[[], _Loaded]) -> _Loaded:
    """Load something unless this process has it; what was loaded with another key is dropped.

    Args:
        key: what it depends on: for files, `describe_files` as well.
        load: loads it.
    """
    with _LOCK:  # threads of one worker wait for the first
        if key not in _KEPT:
            _KEPT.clear()  # two models at once may be too much for a GPU
            _KEPT[key] = load()
        return cast(_Loaded, _KEPT[key])


def describe_files(files: Iterable[Path]) -> tuple[tuple[str, int, int], ...]:
    """Describe files by path, size and time of the last change: a key for `load_once`."""
    found = [(str(file), file.stat()) for file in files]
    return tuple((name, status.st_size, status.st_mtime_ns) for name, status in found)
