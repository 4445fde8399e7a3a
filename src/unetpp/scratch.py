"""Arrays too large for memory: backed by an unlinked temporary file, freed with the array."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import DTypeLike

from unetpp.errors import UsageError
from unetpp.free_memory import measure_free_bytes

LARGE = 2**26
"""Size in bytes above which an array is on disk."""

PIECE = 2**22
"""Bytes of a file that are compressed or decompressed at once."""


def allocate_array(shape: Sequence[int], dtype: DTypeLike, zeros: bool = False) -> np.ndarray:
    """Allocate an array; a large one on disk, or in memory if no disk has space.

    Call `release` repeatedly while writing or reading a large one.

    Args:
        shape: its shape.
        dtype: its number type.
        zeros: whether it is filled with zeros; else it is not initialized.

    Raises:
        MemoryError: no space for it in memory or on disk.
        UsageError: TMPDIR is not a folder.
    """
    size, allocate = prod(shape) * np.dtype(dtype).itemsize, np.zeros if zeros else np.empty
    if size <= LARGE:
        return allocate(shape, dtype)
    try:
        with tempfile.TemporaryFile(prefix="unetpp-", dir=_choose_folder()) as file:
            # a new file is all zeros; a sparse one would kill the process with a bus error if the disk fills up later
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype, mode="r+", shape=tuple(shape))
    except OSError as error:
        if size < measure_free_bytes() / 2:
            return allocate(shape, dtype)
        needed = f"{size / 1e6:,.0f} MB fit neither into memory nor into the temporary folder ({error.strerror})"
        raise MemoryError(f"{needed}; set TMPDIR to another one") from error


def _choose_folder() -> str | None:
    """Return the folder that the user has set, else /var/tmp (/tmp often is memory); None: the default of Python."""
    for name in ("TMPDIR", "TEMP", "TMP"):
        if folder := os.environ.get(name):
            if not os.path.isdir(folder):  # Python would silently take another one
                got, expected = f"{folder}, which is no folder", "one with space for huge images"
                raise UsageError(name, got, expected, f"Make it, name another one, or unset {name}.")
            return folder
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else None


def release(array: np.ndarray | None) -> None:
    """Free the memory that a mapped file occupies; its content stays in the file. Other arrays and None are ignored."""
    mapped = getattr(array, "_mmap", None)
    # a private copy (mode c) would lose what was written
    if mapped is not None and getattr(array, "mode", None) in ("r", "r+", "w+"):
        with contextlib.suppress(AttributeError):  # Windows has no such advice
            mapped.madvise(mmap.MADV_DONTNEED)
