"""Voxels that a text header describes, as those of NRRD and MetaImage: in the same file or in files beside it.

Nothing of a header is believed: other files must lie in the folder of the header, and sizes must fit their lengths.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from os.path import realpath
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unetpp import scratch
from unetpp.formats.format import FileRefused
from unetpp.formats.limits import DEFLATE, check_memory
from unetpp.formats.raw_voxels import refuse_claim

LONGEST_HEADER = 2**22
_MOST_FILES = 10_000
_PATTERN = re.compile(r"(\S*?%0?\d{0,2}d\S*)\s+(\d{1,6})\s+(\d{1,6})(?:\s+(\d{1,6}))?(?:\s+\d)?")
_ZLIB_OR_GZIP = 47
"""`wbits` of zlib that tell the two apart by themselves."""
_RESTORE = "Restore it from the original, or remove it."

Packing = Literal["raw", "deflate", "text", "hex"]


@dataclass(frozen=True)
class StoredVoxels:
    """Where the voxels are, and how."""

    shape: tuple[int, ...]
    """The slowest axis first."""
    dtype: np.dtype[Any]
    """With the byte order of the file."""
    packing: Packing
    files: tuple[Path, ...]
    """Each holds an equal part, along the slowest axis."""
    skip: int = 0
    """Bytes before the voxels, in a packed file after unpacking; -1: the voxels are the end of the file."""
    start: int = 0
    """Place in the file at which voxels, packed or not, begin."""
    skip_lines: int = 0
    """Lines after `start` that are left out, too."""


def load_stored(header: Path, voxels: StoredVoxels) -> np.ndarray:
    """Map voxels, or unpack them once.

    Args:
        header: the file that the user has named.
        voxels: what its header says.

    Returns:
        The voxels (*shape); many are read from disk.

    Raises:
        DataError: the files are too short for the header.
        FileRefused: files that are no files, or whose parts are not equal.
        MemoryError: no space to unpack them.
    """
    count = prod(voxels.shape)
    if count % len(voxels.files):
        raise FileRefused(f"{len(voxels.files)} files of voxels for {count:,} voxels", "equal parts", _RESTORE)
    part = count // len(voxels.files)
    for file in voxels.files:
        _check_claim(header, file, part, voxels)
    if voxels.packing == "raw" and len(voxels.files) == 1:
        file = voxels.files[0]
        offset = _find_start(file, part * voxels.dtype.itemsize, voxels)
        return np.memmap(file, voxels.dtype, mode="r", offset=offset, shape=voxels.shape)
    found = scratch.allocate_array(voxels.shape, voxels.dtype)
    flat = found.reshape(-1)
    for number, file in enumerate(voxels.files):
        _fill(flat[number * part : (number + 1) * part], file, voxels)
        scratch.release(found)
    return found


def find_data_files(header: Path, named: str, listed: Sequence[str]) -> tuple[Path, ...]:
    """Find the files with the voxels that a header names.

    Args:
        header: the header.
        named: a name, a pattern with its first, last and step ("a.%03d.raw 1 20 1"), or LIST.
        listed: names after LIST, one in each line.

    Raises:
        FileRefused: a file outside the folder of the header, or no such file.
    """
    if named.split()[:1] in (["LIST"], ["list"]):
        names = [line.strip() for line in listed if line.strip()]
    elif (pattern := _PATTERN.fullmatch(named)) is not None:
        first, last, step = int(pattern[2]), int(pattern[3]), int(pattern[4] or 1)
        numbers = range(first, last + 1, max(1, step))
        if pattern[1].count("%") != 1 or len(numbers) > _MOST_FILES:
            raise FileRefused("a pattern of file names that is not read", "one number", _RESTORE)
        names = [pattern[1] % number for number in numbers]
    else:
        names = [named]
    if not 0 < len(names) <= _MOST_FILES:
        raise FileRefused(f"{len(names):,} files of voxels", f"1 to {_MOST_FILES:,}", _RESTORE)
    return tuple(_find_beside(header, name) for name in names)


def _find_beside(header: Path, name: str) -> Path:
    """Return a file of the header's folder: a header from elsewhere must not have other files read."""
    path = header.parent / name.strip("\"'")
    folders = {realpath(header.parent), str(Path(realpath(header)).parent)}
    if "\0" in name or not any(Path(realpath(path)).is_relative_to(folder) for folder in folders):
        expected, action = "a file beside the header", "Move the voxels beside the header, and name them there."
        raise FileRefused(f"voxels outside the folder of the header ({name[:60]!a})", expected, action)
    if not path.is_file():
        got = "a pipe or a device" if path.exists() else "no such file"
        raise FileRefused(f"{got} as its voxels ({name[:60]!a})", "a file beside the header", "Give both files.")
    return path


def _check_claim(header: Path, file: Path, count: int, voxels: StoredVoxels) -> None:
    length, size = file.stat().st_size - voxels.start, count * voxels.dtype.itemsize
    if voxels.packing == "text":
        refuse_claim(header, 2 * count - 1, length)
        check_memory(16 * length)
    elif voxels.packing == "hex":
        refuse_claim(header, 2 * size, length)
        check_memory(4 * length)
    else:
        refuse_claim(header, size + max(0, voxels.skip), length, DEFLATE if voxels.packing == "deflate" else 1)


def _find_start(file: Path, size: int, voxels: StoredVoxels) -> int:
    """Find where the voxels, or what unpacks to them, begin in a file."""
    length, start = file.stat().st_size, voxels.start
    if voxels.packing == "raw" and voxels.skip < 0:
        return length - size
    if voxels.skip_lines:
        with file.open("rb") as stream:
            stream.seek(start)
            for _ in range(voxels.skip_lines):
                stream.readline(LONGEST_HEADER)
            start = stream.tell()
    start += voxels.skip if voxels.packing == "raw" else 0
    if voxels.packing == "raw" and start + size > length:
        refuse_claim(file, start + size, length)
    return start


def _fill(target: np.ndarray, file: Path, voxels: StoredVoxels) -> None:
    """Fill a part of the voxels from one file."""
    data = target.view(np.uint8).data
    with file.open("rb") as stream:
        stream.seek(_find_start(file, len(data), voxels))
        if voxels.packing == "raw":
            done = stream.readinto(data)
            if done != len(data):
                raise EOFError(f"{done:,} of {len(data):,} bytes")
        elif voxels.packing == "deflate":
            _unpack(data, stream, max(0, voxels.skip))
        elif voxels.packing == "hex":
            data[:] = bytes.fromhex(stream.read().decode("ascii"))[: len(data)]
        else:
            numbers = np.array(stream.read().split()[: len(target)])
            if len(numbers) != len(target):
                raise EOFError(f"{len(numbers):,} of {len(target):,} numbers")
            target[:] = numbers.astype(target.dtype)


def _unpack(target: memoryview, stream: Any, skip: int) -> None:
    """Unpack zlib or gzip into memory, whose checksum is verified; what follows the voxels is left alone."""
    unpacker, done, pending = zlib.decompressobj(_ZLIB_OR_GZIP), -skip, b""
    while done < len(target) or not unpacker.eof:
        pending = pending or stream.read(scratch.PIECE)
        if not pending:
            raise EOFError(f"{max(0, done):,} of {len(target):,} bytes of voxels, then the file ends")
        piece = unpacker.decompress(pending, scratch.PIECE)
        pending = unpacker.unconsumed_tail
        kept = piece[max(0, -done) :][: max(0, len(target) - max(0, done))]
        target[max(0, done) : max(0, done) + len(kept)] = kept
        done += len(piece)
        if done > len(target) + scratch.PIECE:  # more than the header says, without an end
            return
        if unpacker.eof and done < len(target):  # gzip files may have several parts
            pending = unpacker.unused_data + pending
            unpacker = zlib.decompressobj(_ZLIB_OR_GZIP)
