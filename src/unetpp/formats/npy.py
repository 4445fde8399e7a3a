"""NumPy arrays: `.npy`, mapped, and `.npz` with one array. Objects, which would have to be unpickled, are refused."""

from __future__ import annotations

import zipfile
from functools import partial
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from unetpp.formats import limits
from unetpp.formats.axes import arrange, choose_axes
from unetpp.formats.format import FileRefused, Format
from unetpp.volume import Geometry, Volume

_MAGIC = b"\x93NUMPY"


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read shape and number type; the stream is then at the first number."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.kind not in "biuf":
        got = "objects of Python, which are never loaded" if dtype.hasobject else f"an array of {dtype}"
        raise FileRefused(got, "an array of whole or floating-point numbers", "Convert it, for example to float32.")
    return shape, dtype


def _map(path: Path) -> np.ndarray:
    with path.open("rb") as stream:
        shape, dtype = _read_header(stream)
        limits.check_claim(path, shape, prod(shape) * dtype.itemsize + stream.tell(), 1)
    return np.asanyarray(np.load(path, mmap_mode="r" if prod(shape) else None, allow_pickle=False))


def _unzip(path: Path) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        if len(names) != 1:
            arrays = ", ".join(name.removesuffix(".npy") for name in names[:5]) or "none"
            raise FileRefused(f"{len(names)} arrays ({arrays})", "one", "Save each as a file of its own (.npy).")
        info = archive.getinfo(names[0])
        limits.check_claim(path, (info.file_size,), info.file_size, limits.DEFLATE)
        limits.check_memory(info.file_size)
        with archive.open(info) as stream:
            shape, dtype = _read_header(stream)
            if prod(shape) * dtype.itemsize > info.file_size:
                raise ValueError("it ends before its last number")
        with archive.open(info) as stream:
            return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _guess_axes(shape: tuple[int, ...]) -> str:
    """Return the axes of an array by its shape, where there is one answer.

    Raises:
        FileRefused: several answers, or none.
    """
    sizes = " x ".join(map(str, shape))
    long = [size for size in shape if size > 1]
    if len(shape) == 2:
        return "YX"
    if len(shape) == 3 and min(shape[0], shape[2]) > 4:
        return "ZYX"
    if len(shape) == 3 and shape[2] in (1, 3, 4) and shape[0] > 4:
        return "YXC"
    if len(shape) == 3 and len(long) < 3 and shape[0] == 1:
        return "CYX"
    if len(shape) == 4 and shape[0] == 1:
        return "C" + "ZYX"
    if len(shape) in (3, 4):
        choices = ("CYX", "ZYX", "YXC") if len(shape) == 3 else ("CZYX", "ZYXC", "ZCYX")
        named = ", ".join(f'`data.axes="{choice}"`' for choice in choices)
        raise FileRefused(
            f"an array of {sizes}, which may be channels or planes", "one meaning", f"Set one of {named}."
        )
    raise FileRefused(
        f"an array of {len(shape)} axes ({sizes})", "two to four", "Save each image as a file of its own."
    )


def _choose(array: np.ndarray, axes: str | None, is_label: bool) -> tuple[str, bool]:
    """Choose the axes, and tell whether they are guessed. Those that the user has set need not fit labels."""
    if axes is not None and array.ndim != 2:
        try:
            return choose_axes("I" * array.ndim, array.shape, axes), False
        except FileRefused:
            if not is_label:
                raise
    return _guess_axes(array.shape), array.ndim > 2


def _read(path: Path, suffix: str, axes: str | None = None, is_label: bool = True) -> Volume:
    array = _unzip(path) if zipfile.is_zipfile(path) else _map(path)
    letters, is_guess = _choose(array, axes, is_label)
    found = arrange(array.view(np.uint8) if array.dtype == bool else array, letters)
    notes = (f'an array without names of its axes, read as `data.axes="{letters}"`',) if is_guess else ()
    return Volume(found.array, Geometry(suffix, notes=notes))


def _write(array: np.ndarray, geometry: Geometry, path: Path) -> None:
    np.save(path, array, allow_pickle=False)


def _sniff(head: bytes) -> bool:
    """Recognize an array, or an archive whose first member is one."""
    length = int.from_bytes(head[26:28], "little")
    return head.startswith(_MAGIC) or (head.startswith(b"PK\x03\x04") and head[30 : 30 + length].endswith(b".npy"))


NUMPY = Format(
    "NumPy",
    (".npy", ".npz"),
    read=_read,
    open=partial(_read, is_label=False),
    takes_axes=True,
    write=_write,
    sniff=_sniff,
    written_as={".npz": ".npy"},
)
