"""Voxels that lie in a file as they are in memory, plain or compressed by gzip: mapped, or unpacked once.

Sizes in headers are believed only after the length of the file was looked at.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from unetpp import scratch
from unetpp.errors import DataError, Problem
from unetpp.formats.limits import DEFLATE
from unetpp.formats.sources import Slices
from unetpp.slabs import slabs
from unetpp.volume import Geometry

_RESTORE = "Restore it from the original, or remove it."


Stream = BinaryIO | gzip.GzipFile


class VoxelSource:
    """Voxels (C, *spatial) of a file in blocks; integers with a scale become float32."""

    def __init__(self, stored: np.ndarray, geometry: Geometry, scale: tuple[float, float] | None = None) -> None:
        self._stored = stored
        self._scale = scale
        self._rows = slice(None)
        self.geometry = geometry
        self.shape = stored.shape
        self.dtype: np.dtype[Any] = _choose_type(stored.dtype, scale)

    def read(self, slices: Slices) -> np.ndarray:
        """Copy a block, scaled."""
        if slices[0] != self._rows:  # tiles of the same rows share pages of a mapped file
            scratch.release(self._stored)
            self._rows = slices[0]
        block = self._stored[(slice(None), *slices)]
        if self._scale is not None:
            slope, intercept = self._scale
            block = block * np.float64(slope) + np.float64(intercept)
        with np.errstate(over="ignore"):  # infinity is refused where images are checked
            return np.ascontiguousarray(block, dtype=self.dtype)

    def read_all(self) -> np.ndarray:
        """Return all voxels (C, *spatial); without a scale, those of the file without a copy."""
        if self._scale is None and self._stored.dtype.newbyteorder("=") == self.dtype:
            return self._stored
        found = scratch.allocate_array(self.shape, self.dtype)
        for slices in slabs(self.shape[1:]):
            found[(slice(None), *slices)] = self.read(slices)
            scratch.release(found)
        return found


def load_voxels(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int) -> np.ndarray:
    """Map the voxels of a plain file, or unpack those of a gzip file, whose checksum is verified.

    Args:
        path: the file.
        shape: as the header states it, the slowest axis first.
        dtype: number type of the file.
        offset: place of the first voxel, in bytes of the unpacked file.

    Returns:
        The voxels (*shape), read-only or on disk if they are many.

    Raises:
        DataError: the file is too short for its header, or damaged.
        MemoryError: no space to unpack it.
    """
    claimed = offset + prod(shape) * dtype.itemsize
    size = path.stat().st_size
    with open_unpacked(path) as stream:
        refuse_claim(path, claimed, size, DEFLATE if isinstance(stream, gzip.GzipFile) else 1)
        if prod(shape) == 0:
            return np.empty(shape, dtype)
        if isinstance(stream, gzip.GzipFile):
            return _unpack(path, stream, shape, dtype, offset)
        return np.memmap(path, dtype, mode="r", offset=offset, shape=shape)


def refuse_claim(path: Path, claimed: int, size: int, ratio: int = 1) -> None:
    """Refuse a header that claims more bytes than the file can hold.

    Args:
        path: the file.
        claimed: bytes that the header needs.
        size: length of the file.
        ratio: how many times smaller its compression makes data at most.

    Raises:
        DataError: the file is too short.
    """
    if claimed > size * ratio:
        packing = f" that are compressed at most {ratio} to 1" if ratio > 1 else ""
        got = f"a file that is truncated: its header needs {claimed:,} bytes, there are {size:,}{packing}"
        raise DataError(Problem(str(path), got, "a file as long as its header says", _RESTORE))


@contextmanager
def open_unpacked(path: Path) -> Iterator[Stream]:
    """Open a file for reading, through gzip if its content is that, whatever its name."""
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not is_gzip:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as stream:
            yield stream


def _unpack(path: Path, stream: gzip.GzipFile, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int) -> np.ndarray:
    found = scratch.allocate_array(shape, dtype)
    target = found.reshape(-1).view(np.uint8).data
    done = 0
    try:
        stream.seek(offset)
        while done < len(target):
            count = stream.readinto(target[done : done + scratch.PIECE])
            if not count:
                raise EOFError(f"{done:,} of {len(target):,} bytes")
            done += count
            scratch.release(found)
        while stream.read(scratch.PIECE):  # the checksum is at the end
            pass
    except EOFError:
        got = f"a gzip file that is truncated: it ends after {done:,} of {len(target):,} bytes of voxels"
        raise DataError(Problem(str(path), got, "a whole gzip file", _RESTORE)) from None
    except gzip.BadGzipFile as error:
        # other bytes after a whole stream do no harm; gzip itself ignores them too
        if done < len(target) or "Not a gzipped file" not in str(error):
            got = f"a damaged gzip file: the checksum at its end does not fit its content ({error})"
            raise DataError(Problem(str(path), got, "an undamaged file", _RESTORE)) from None
    return found


def _choose_type(stored: np.dtype[Any], scale: tuple[float, float] | None) -> np.dtype[Any]:
    if stored.kind == "f" and stored.itemsize > 8:
        return np.dtype(np.float64)
    if scale is None or (stored.kind == "f" and stored.itemsize >= 4):
        return stored.newbyteorder("=")
    return np.dtype(np.float32)
