"""NRRD (https://teem.sourceforge.net/nrrd/format.html), with the segments of 3D Slicer; strict in what it believes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unetpp.formats.format import FileRefused
from unetpp.formats.itk import Grid, ItkFile, make_format, parse_floats, parse_integers, read_header_lines
from unetpp.formats.voxel_file import Packing, StoredVoxels, find_data_files
from unetpp.volume import Segment

_MAGIC = re.compile(r"NRRD000[1-5]")
_DOMAINS = ("domain", "space", "time", "???", "unknown")
_PACKINGS: dict[str, Packing] = {
    **dict.fromkeys(("raw",), "raw"),
    **dict.fromkeys(("gzip", "gz"), "deflate"),
    **dict.fromkeys(("text", "txt", "ascii"), "text"),
    "hex": "hex",
}
_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(
        ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"), "i8"
    ),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
_FLIPS = {
    "left-posterior-superior": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
}
"""Signs that turn the axes of a space into those of ITK (left, posterior, superior)."""
_OTHER_SPACES = ("", "scanner-xyz", "3d-right-handed", "3d-left-handed", "right-up", "right-down")
_SHORT = {"lps": "left-posterior-superior", "ras": "right-anterior-superior", "las": "left-anterior-superior"}
_KNOWN = (
    "content", "number", "type", "block size", "dimension", "space", "space dimension", "sizes", "spacings",
    "thicknesses", "axis mins", "axis maxs", "space directions", "centers", "kinds", "labels", "units", "min", "max",
    "old min", "old max", "endian", "encoding", "line skip", "byte skip", "sample units", "space units",
    "space origin", "measurement frame", "data file",
)  # fmt: skip
_OTHER_SPELLINGS = {
    "blocksize": "block size", "axismins": "axis mins", "axismaxs": "axis maxs", "centerings": "centers",
    "oldmin": "old min", "oldmax": "old max", "lineskip": "line skip", "byteskip": "byte skip",
    "sampleunits": "sample units", "datafile": "data file",
}  # fmt: skip
_CORRECT = "Correct the header of the file, or restore it from the original."


@dataclass(frozen=True)
class _Text:
    """The header as text."""

    fields: Mapping[str, str]
    values: Mapping[str, str]
    """Entries `key:=value`."""
    listed: tuple[str, ...]
    """Names of data files after `data file: LIST`."""
    end: int
    """Place of the first byte after the header."""


def read_nrrd(path: Path) -> ItkFile:
    """Read the header of an NRRD file.

    Raises:
        FileRefused: what it says is not possible, or not read.
    """
    text = _parse(path)
    fields = text.fields
    sizes = parse_integers(_require(fields, "sizes"), "sizes")
    if len(sizes) != parse_integers(_require(fields, "dimension"), "dimension", most=16)[0]:
        raise FileRefused(f"{len(sizes)} sizes that differ from its dimension", "one for each axis", _CORRECT)
    channels = _find_channel_axis(fields, len(sizes))
    spatial = [axis for axis in range(len(sizes)) if axis != channels]
    shape = tuple(reversed(sizes))
    voxels = StoredVoxels(shape, _find_type(fields), _find_packing(fields), *_find_place(path, text))
    return ItkFile(
        voxels,
        None if channels is None else len(sizes) - 1 - channels,
        _find_grid(fields, spatial, len(sizes)),
        is_placed="superior" in _find_space(fields),  # others are axes of a scanner or of none
        segments=find_segments(text.values),
    )


def _parse(path: Path) -> _Text:
    fields: dict[str, str] = {}
    values: dict[str, str] = {}
    lines, end = read_header_lines(path, lambda line: not line)
    if not lines or not _MAGIC.fullmatch(lines[0]):
        raise FileRefused("a file that is truncated or no NRRD file of version 1 to 5", "NRRD0004", _CORRECT)
    for number, line in enumerate(lines[1:], start=1):
        if line.startswith("#"):
            continue
        key, separator, value = line.partition(":")
        if separator and value.startswith("="):
            values.setdefault(key, value[1:].strip())
            continue
        key = _OTHER_SPELLINGS.get(key.strip().lower(), key.strip().lower())
        if not separator or key not in _KNOWN or key in fields:
            what = "twice" if key in fields else "that the format does not have"
            raise FileRefused(f"a line of its header {what} ({line[:60]!r})", "a field, a colon and a value", _CORRECT)
        fields[key] = value.strip()
        if key == "data file" and value.split()[:1] == ["LIST"]:
            return _Text(fields, values, tuple(lines[number + 1 :]), end)
    return _Text(fields, values, (), end)


def _require(fields: Mapping[str, str], name: str) -> str:
    if name not in fields:
        raise FileRefused(f"a header without `{name}`, or a truncated one", "a whole header", _CORRECT)
    return fields[name]


def _find_type(fields: Mapping[str, str]) -> np.dtype[Any]:
    name, endian = " ".join(_require(fields, "type").lower().split()), fields.get("endian", "").lower()
    if name not in _TYPES:
        raise FileRefused(f"numbers of the type {name[:40]!r}", "integers or floats", "Convert the file.")
    dtype = np.dtype(_TYPES[name])
    if _find_packing(fields) == "text":
        return dtype
    if endian not in ("little", "big") and (endian or dtype.itemsize > 1):
        raise FileRefused(f"numbers without their byte order (`endian: {endian[:20]}`)", "little or big", _CORRECT)
    return dtype.newbyteorder(">" if endian == "big" else "<")


def _find_packing(fields: Mapping[str, str]) -> Packing:
    encoding = _require(fields, "encoding").lower()
    if encoding not in _PACKINGS:
        raise FileRefused(f"the encoding {encoding[:40]!r}", "raw, gzip, ascii or hex", "Save it with one of these.")
    return _PACKINGS[encoding]


def _find_place(path: Path, text: _Text) -> tuple[tuple[Path, ...], int, int, int]:
    """Find the files, the bytes to skip in them, where they start, and the lines to skip."""
    skip = parse_integers(text.fields.get("byte skip", "0"), "byte skip", least=-1)[0]
    lines = parse_integers(text.fields.get("line skip", "0"), "line skip", least=0, most=10_000)[0]
    if "data file" in text.fields:
        return find_data_files(path, text.fields["data file"], text.listed), skip, 0, lines
    return (path,), skip, text.end, lines


def _find_channel_axis(fields: Mapping[str, str], dims: int) -> int | None:
    """Find the axis that is no axis of space, as the file orders them; of four the last, if none is declared so."""
    kinds = fields.get("kinds", "").lower().split() or ["unknown"] * dims
    vectors = _split_vectors(fields)
    if len(kinds) != dims or (vectors is not None and len(vectors) != dims):
        raise FileRefused("kinds or directions that are not one for each axis", "one for each axis", _CORRECT)
    if "complex" in kinds:
        action = "Save its magnitude or phase, as real numbers."
        raise FileRefused("complex numbers", "real numbers, one for each voxel", action)
    found = [axis for axis, kind in enumerate(kinds) if kind not in _DOMAINS]
    found = found or [axis for axis, vector in enumerate(vectors or ()) if vector is None]
    if not found and dims == 4:
        return 3
    if len(found) > 1 or dims - len(found) not in (2, 3):
        got = f"{dims} axes, {len(found)} of which are no axes of space"
        raise FileRefused(got, "two or three axes of space, and one of channels at most", "Save each volume by itself.")
    return found[0] if found else None


def _split_vectors(fields: Mapping[str, str]) -> list[tuple[float, ...] | None] | None:
    """Split `space directions` into one vector for each axis, None for `none`."""
    if "space directions" not in fields:
        return None
    entries = re.findall(r"none|\([^()]*\)|\S+", re.sub(r"\s*,\s*", ",", fields["space directions"]))
    return [None if entry.lower() == "none" else _parse_vector(entry) for entry in entries]


def _parse_vector(text: str) -> tuple[float, ...]:
    if not (text.startswith("(") and text.endswith(")")):
        raise FileRefused(f"a vector {text[:40]!r}", "(x,y,z)", _CORRECT)
    return parse_floats(text[1:-1].replace(",", " "), "vectors")


def _find_space(fields: Mapping[str, str]) -> str:
    """Find the name of the space, spelled out and without time; "" if none is declared."""
    space = re.sub("-time$|(?<=^...)t$", "", fields.get("space", "").lower().replace(" ", "-"))
    return _SHORT.get(space, space)


def _find_grid(fields: Mapping[str, str], spatial: list[int], dims: int) -> Grid:
    """Find spacing, origin and directions of the axes of space, in the space of ITK."""
    count, vectors = len(spatial), _split_vectors(fields)
    space = _find_space(fields)
    if space not in (*_FLIPS, *_OTHER_SPACES):
        raise FileRefused(f"the space {space[:40]!r}", f"one of the format, such as {', '.join(_FLIPS)}", _CORRECT)
    flips = np.asarray(_FLIPS.get(space, (1, 1, 1)), dtype=float)
    origin = np.zeros(count)
    if "space origin" in fields and len(found := _parse_vector(fields["space origin"].replace(" ", ""))) >= count:
        origin = np.asarray(found[:count]) * flips[:count]
    if vectors is None or any(vectors[axis] is None or len(vectors[axis] or ()) < count for axis in spatial):
        spacing = parse_floats(fields["spacings"], "spacings") if "spacings" in fields else (1.0,) * dims
        if len(spacing) != dims:
            raise FileRefused(f"{len(spacing)} spacings for {dims} axes", "one for each axis", _CORRECT)
        steps = [1.0 if np.isnan(spacing[axis]) else abs(spacing[axis]) for axis in spatial]
        return Grid(tuple(steps), tuple(origin.tolist()), tuple(np.eye(count).reshape(-1).tolist()))
    columns = np.array([(vectors[axis] or ())[:count] for axis in spatial]).T * flips[:count, None]
    with np.errstate(all="ignore"):  # what is infinite or 0 is refused where images are checked
        steps = np.linalg.norm(columns, axis=0)
        direction = columns / steps
    return Grid(tuple(steps.tolist()), tuple(origin.tolist()), tuple(direction.reshape(-1).tolist()))


def find_segments(values: Mapping[str, str]) -> tuple[Segment, ...]:
    """Find the segments that 3D Slicer names, in the order of their numbers."""
    found = (re.fullmatch(r"Segment([0-9]{1,6})_LabelValue", key) for key in values)
    segments = []
    for number in sorted(int(match[1]) for match in found if match):
        entry = f"Segment{number}_"
        name = values.get(f"{entry}Name") or values.get(f"{entry}ID") or f"segment {number}"
        value = parse_integers(values[f"{entry}LabelValue"], f"{entry}LabelValue", least=-(2**31))[0]
        layer = parse_integers(values.get(f"{entry}Layer") or "0", f"{entry}Layer", least=0)[0]
        segments.append(Segment(name, value, layer))
    return tuple(segments)


# an image with a separate header (.nhdr): the segmentation is one file
NRRD = make_format(
    "NRRD", (".nrrd", ".seg.nrrd", ".nhdr"), read_nrrd, written_as={".nhdr": ".nrrd", ".seg.nrrd": ".nrrd"}
)
