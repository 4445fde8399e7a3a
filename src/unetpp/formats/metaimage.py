"""MetaImage (.mha, .mhd with .raw or .zraw); strict in what it believes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unetpp.formats.format import FileRefused
from unetpp.formats.itk import Grid, ItkFile, make_format, parse_floats, parse_integers, read_header_lines
from unetpp.formats.voxel_file import LONGEST_HEADER, Packing, StoredVoxels, find_data_files

_TYPES = {
    "MET_CHAR": "i1",
    "MET_ASCII_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_DIRECTIONS = ("TransformMatrix", "Rotation", "Orientation")
"""Fields with the directions of the axes, the first that there is counts."""
_CORRECT = "Correct the header of the file, or restore it from the original."


def read_metaimage(path: Path) -> ItkFile:
    """Read the header of a MetaImage file.

    Raises:
        FileRefused: what it says is not possible, or not read.
    """
    fields, end = _parse(path)
    dims = parse_integers(_find(fields, "NDims"), "NDims", most=16)[0]
    sizes = parse_integers(_find(fields, "DimSize"), "DimSize")
    channels = parse_integers(fields.get("ElementNumberOfChannels", "1"), "ElementNumberOfChannels", most=2**16)[0]
    if len(sizes) != dims or dims not in (2, 3, 4):
        got = f"NDims = {dims} with {len(sizes)} sizes"
        raise FileRefused(got, "two to four axes, with a size for each", _CORRECT)
    if dims == 4 and channels > 1:
        got = f"{channels} channels at each point in time"
        raise FileRefused(got, "channels or points in time", "Save each volume by itself.")
    shape = (*reversed(sizes), channels) if channels > 1 else tuple(reversed(sizes))
    axis = dims if channels > 1 else 0 if dims == 4 else None
    voxels = StoredVoxels(shape, _find_type(fields), _find_packing(fields), *_find_place(path, fields, end))
    is_placed = not fields.keys().isdisjoint(_DIRECTIONS)  # ITK takes others for LPS
    return ItkFile(voxels, axis, _find_grid(fields, dims), is_placed)


def _parse(path: Path) -> tuple[dict[str, str], int]:
    fields: dict[str, str] = {}
    lines, end = read_header_lines(path, lambda line: line.startswith("ElementDataFile"))
    for line in lines:
        key, separator, value = (part.strip() for part in line.partition("="))
        if not separator and not line:
            continue
        if not separator or not key or key in fields:
            what = "twice" if separator and key in fields else "that is no field"
            raise FileRefused(f"a line of its header {what} ({line[:60]!r})", "a name, = and a value", _CORRECT)
        fields[key] = value
    if "ElementDataFile" not in fields:
        raise FileRefused("a file that is truncated or no MetaImage", "a header with ElementDataFile", _CORRECT)
    return fields, end


def _find(fields: Mapping[str, str], *names: str) -> str:
    for name in names:
        if name in fields:
            return fields[name]
    raise FileRefused(f"a header without {names[0]}, or a truncated one", "a whole header", _CORRECT)


def _is_true(fields: Mapping[str, str], *names: str, default: str = "False") -> bool:
    value = next((fields[name] for name in names if name in fields), default)
    if value.lower() not in ("true", "false", "t", "f", "1", "0"):
        raise FileRefused(f"{names[0]} = {value[:20]}", "True or False", _CORRECT)
    return value.lower() in ("true", "t", "1")


def _find_type(fields: Mapping[str, str]) -> np.dtype[Any]:
    name = _find(fields, "ElementType")
    if name.removesuffix("_ARRAY") not in _TYPES:
        raise FileRefused(f"ElementType = {name[:40]}", "a type of numbers, such as MET_SHORT", _CORRECT)
    is_big = _is_true(fields, "BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    return np.dtype(_TYPES[name.removesuffix("_ARRAY")]).newbyteorder(">" if is_big else "<")


def _find_packing(fields: Mapping[str, str]) -> Packing:
    is_binary = _is_true(fields, "BinaryData", default="True")
    if _is_true(fields, "CompressedData"):
        return "deflate"
    return "raw" if is_binary else "text"


def _find_place(path: Path, fields: Mapping[str, str], end: int) -> tuple[tuple[Path, ...], int, int]:
    """Find the files, the bytes to skip in them and where they start."""
    named = fields["ElementDataFile"]
    if named.upper() == "LOCAL":
        return (path,), 0, end
    with path.open("rb") as stream:
        stream.seek(end)
        listed = stream.read(LONGEST_HEADER).decode("utf-8", "surrogateescape").splitlines()
    skip = parse_integers(fields.get("HeaderSize", "0"), "HeaderSize", least=-1)[0]
    return find_data_files(path, named, listed), skip, 0


def _find_grid(fields: Mapping[str, str], dims: int) -> Grid:
    count = min(dims, 3)
    spacing = _find_floats(fields, ("ElementSpacing", "ElementSize"), (1.0,) * dims)
    origin = _find_floats(fields, ("Offset", "Position", "Origin"), (0.0,) * dims)
    matrix = _find_floats(fields, _DIRECTIONS, tuple(np.eye(dims).reshape(-1)))
    direction = np.reshape(matrix, (dims, dims)).T[:count, :count]  # a row is the direction of an axis
    return Grid(spacing[:count], origin[:count], tuple(direction.reshape(-1).tolist()))


def _find_floats(fields: Mapping[str, str], names: tuple[str, ...], default: tuple[float, ...]) -> tuple[float, ...]:
    name = next((name for name in names if name in fields), None)
    if name is None:
        return default
    found = parse_floats(fields[name], name)
    if len(found) != len(default):
        raise FileRefused(f"{name} with {len(found)} numbers", f"{len(default)}", _CORRECT)
    return found


# an image with a separate header (.mhd): the segmentation is one file
MHA = make_format("MHA", (".mha", ".mhd"), read_metaimage, written_as={".mhd": ".mha"})
