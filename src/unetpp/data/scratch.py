"""Arrays too large to be held in memory: they lie in a temporary file without a name, and go with it."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Sequence
from math import prod

import numpy as np
import psutil
from numpy.typing import DTypeLike

from unetpp.errors import UsageError

LARGE = 2**26
"""Bytes above which an array lies on disk."""

PIECE = 2**22
"""Bytes of a file that are unpacked or packed at once."""


def allocate_array(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """An array of any content; a large one on disk, or in memory where no disk has space. Call `release` now and then where many of its values are touched.

    Raises:
        MemoryError: space for it is nowhere.
        UsageError: TMPDIR names no folder.
    """
    size = prod(shape) * np.dtype(dtype).itemsize
    if size <= LARGE:
        return np.empty(shape, dtype)
    try:
        with tempfile.TemporaryFile(prefix="unetpp-", dir=_folder()) as file:
            # a file with holes would end the process without a word, should the space run out later
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype, mode="r+", shape=tuple(shape))
    except OSError as error:
        if size < psutil.virtual_memory().available / 2:
            return np.empty(shape, dtype)
        raise MemoryError(
            f"{size / 1e6:,.0f} MB fit neither into memory nor into the temporary folder ({error.strerror}); TMPDIR names another one"
        ) from error


def _folder() -> str | None:
    """The one that was chosen; else not /tmp, which is memory itself on many systems, but /var/tmp, a disk. None: the system's own."""
    for name in ("TMPDIR", "TEMP", "TMP"):
        if folder := os.environ.get(name):
            if not os.path.isdir(folder):  # Python would take another one without a word
                raise UsageError(
                    f"{name}: got {folder}, which is no folder; expected one with space for huge images. Make it, name another one, or unset {name}."
                )
            return folder
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else None


def release(array: np.ndarray | None) -> None:
    """Give back the memory that a mapped file takes; its content stays in the file. Nothing happens to other arrays, or to none."""
    mapped = getattr(array, "_mmap", None)
    # a private copy, of another mode, would lose what was written
    if mapped is not None and getattr(array, "mode", None) in ("r", "r+", "w+"):
        with contextlib.suppress(AttributeError):  # Windows has no such advice
            mapped.madvise(mmap.MADV_DONTNEED)
