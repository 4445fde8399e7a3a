"""Arrays too large to be held in memory: they lie in a temporary file without a name, and go with it."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import tempfile
from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import DTypeLike

from unetpp.errors import DataError, Problem

LARGE = 2**26
"""Bytes above which an array lies on disk."""


def new_array(shape: Sequence[int], dtype: DTypeLike, what: str = "result") -> np.ndarray:
    """An array of any content; a large one on disk. Call `release` now and then where many of its values are touched.

    Args:
        what: it is for: the name of the file or result in the error.

    Raises:
        DataError: no space for it.
    """
    size = prod(shape) * np.dtype(dtype).itemsize
    if size <= LARGE:
        return np.empty(shape, dtype)
    folder = tempfile.gettempdir()
    with tempfile.TemporaryFile(prefix="unetpp-") as file:
        try:
            if shutil.disk_usage(folder).free < size:
                raise OSError
            # a file with holes would end the process without a word, should the space run out later
            getattr(os, "posix_fallocate", os.truncate)(file.fileno(), *((0, size) if hasattr(os, "posix_fallocate") else (size,)))
        except OSError:
            free = shutil.disk_usage(folder).free
            got = f"{size / 1e6:,.0f} MB to put aside, of which {free / 1e6:,.0f} MB fit into {folder}"
            raise DataError(Problem(what, got, "space for it", "Set TMPDIR to a folder with more space.")) from None
        return np.memmap(file, dtype, mode="r+", shape=tuple(shape))


def release(array: np.ndarray | None) -> None:
    """Give back the memory that a mapped file takes; its content stays in the file. Nothing happens to other arrays, or to none."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and getattr(array, "mode", None) in ("r", "r+", "w+"):  # a private copy would lose what was written
        with contextlib.suppress(AttributeError):  # Windows has no such advice
            mapped.madvise(mmap.MADV_DONTNEED)
