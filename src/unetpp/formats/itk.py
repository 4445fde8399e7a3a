"""NRRD and MetaImage, by SimpleITK. Segments of 3D Slicer are read from the header of NRRD."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import psutil

from unetpp.errors import DataError, Problem
from unetpp.formats import scratch
from unetpp.formats.format import Format
from unetpp.formats.raw_voxels import GZIP_RATIO, refuse_claim
from unetpp.slabs import slabs
from unetpp.volume import Geometry, Segment, Volume

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LONGEST_HEADER = 2**20
_MHA_DIRECTIONS = ("transformmatrix", "rotation", "orientation")
"""Fields of MetaImage that state the directions of the axes."""
_one_large_file = Lock()
"""ITK holds a whole file in memory: large ones are read one after the other."""


@dataclass(frozen=True)
class _Grid:
    """Grid of the file, without rounding."""

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]


def _read(path: Path, suffix: str) -> Volume:
    import SimpleITK

    reader, header = _open_reader(path)
    _refuse_unreal(path, SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()))
    size = _refuse_claimed_size(path, reader)
    with _one_large_file if size > scratch.LARGE else nullcontext():
        image = reader.Execute()
        array = _to_channels_first(SimpleITK.GetArrayViewFromImage(image), image.GetNumberOfComponentsPerPixel())
        array = _copy(array)
        del image
    return Volume(array, _make_geometry(suffix, reader, header), segments=_find_segments(header))


def _read_grid(path: Path, suffix: str) -> tuple[tuple[int, ...], Geometry]:
    reader, header = _open_reader(path)
    return tuple(reversed(reader.GetSize()[:3])), _make_geometry(suffix, reader, header)


def _open_reader(path: Path) -> tuple[Any, dict[str, str]]:
    """Read the header alone: a reader that knows the grid, and the fields."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader, {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}


def _to_channels_first(array: np.ndarray, components: int) -> np.ndarray:
    """Arrange components, or the fourth axis of a series, as channels."""
    if components > 1:
        return np.moveaxis(array, -1, 0)
    return array if array.ndim == 4 else array[None]


def _copy(array: np.ndarray) -> np.ndarray:
    """Copy an array out of the memory of ITK; a large one goes to disk."""
    found = scratch.allocate_array(array.shape, array.dtype)
    for slices in slabs(array.shape[1:]):
        found[(slice(None), *slices)] = array[(slice(None), *slices)]
        scratch.release(found)
    return found


def _make_geometry(suffix: str, reader: Any, header: Mapping[str, str]) -> Geometry:
    """Take the grid of the first three axes at most: the fourth holds channels or time points."""
    dims = reader.GetDimension()
    direction = np.reshape(reader.GetDirection(), (dims, dims))[:3, :3]
    grid = _Grid(reader.GetSpacing()[:3], reader.GetOrigin()[:3], tuple(direction.reshape(-1).tolist()))
    affine = _compute_affine(grid) if len(grid.spacing) == 3 else None
    return Geometry(suffix, tuple(reversed(grid.spacing)), affine, grid, is_placed=_is_placed(reader, header))


def _is_placed(reader: Any, header: Mapping[str, str]) -> bool:
    """Tell whether the header says how the axes lie in the body: ITK takes them for LPS where it does not."""
    if header.get("ITK_InputFilterName") == "MetaImageIO":
        return not _read_fields(Path(reader.GetFileName())).keys().isdisjoint(_MHA_DIRECTIONS)
    return "superior" in header.get("NRRD_space", "")  # others are axes of a scanner or of none


def _compute_affine(grid: _Grid) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(grid.direction, (3, 3)) * grid.spacing
    affine[:3, 3] = grid.origin
    return _LPS_TO_RAS @ affine


def _find_segments(header: Mapping[str, str]) -> tuple[Segment, ...]:
    """Find the segments that 3D Slicer names, in the order of their numbers."""
    numbers = sorted(
        int(key.removeprefix("Segment").removesuffix("_LabelValue"))
        for key in header
        if key.startswith("Segment") and key.endswith("_LabelValue") and key[7:-11].isdecimal()
    )
    segments = []
    for number in numbers:
        entry = f"Segment{number}_"
        name = header.get(f"{entry}Name") or header.get(f"{entry}ID") or f"segment {number}"
        segments.append(Segment(name, int(header[f"{entry}LabelValue"]), int(header.get(f"{entry}Layer", "0") or "0")))
    return tuple(segments)


def _refuse_unreal(path: Path, numbers: str) -> None:
    if "complex" in numbers:
        action = "Save its magnitude or phase, as real numbers."
        raise DataError(Problem(str(path), f"complex numbers ({numbers})", "real numbers, one for each voxel", action))


def _refuse_claimed_size(path: Path, reader: Any) -> int:
    """Compare the bytes that the header states with the length of the file, before memory is allocated."""
    import SimpleITK

    pixel = SimpleITK.Image([1] * reader.GetDimension(), reader.GetPixelID(), reader.GetNumberOfComponents())
    claimed = prod(reader.GetSize()) * reader.GetNumberOfComponents() * pixel.GetSizeOfPixelComponent()
    fields = _read_fields(path)
    packed = fields.get("encoding", "raw") not in ("raw", "hex") or fields.get("compresseddata") == "true"
    data = fields.get("data file") or fields.get("datafile") or fields.get("elementdatafile")
    files = [path] if data in (None, "local") else [file for file in path.parent.rglob("*") if file.is_file()]
    refuse_claim(path, claimed, sum(file.stat().st_size for file in files), GZIP_RATIO if packed else 1)
    free = psutil.virtual_memory().available
    if claimed > max(free / 2, scratch.LARGE):
        raise MemoryError(f"{claimed / 1e6:,.0f} MB of {free / 1e6:,.0f} MB that are free; NIfTI is read from disk")
    return int(claimed)


def _read_fields(path: Path) -> dict[str, str]:
    """Read the fields of a text header, keys and values in lower case."""
    with path.open("rb") as stream:
        lines = stream.read(_LONGEST_HEADER).split(b"\n")
    separator = ":" if lines[0].startswith(b"NRRD") else "="
    fields: dict[str, str] = {}
    for line in lines:
        text = line.decode("latin-1").strip()
        if not text and fields:
            break
        key, _, value = (part.strip().lower() for part in text.partition(separator))
        fields.setdefault(key, value)
        if key == "elementdatafile":  # the last one of MetaImage
            break
    return fields


def _write(array: np.ndarray, geometry: Geometry, path: Path) -> None:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(array)
    if isinstance(grid := geometry.header, _Grid):
        image.SetSpacing(grid.spacing)
        image.SetOrigin(grid.origin)
        image.SetDirection(grid.direction)
    try:
        SimpleITK.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:  # such as no space left
        raise OSError(str(error).strip().splitlines()[-1]) from error


_itk = partial(Format, read=_read, grid=_read_grid, write=_write, medical=True, needs=("SimpleITK", "medical"))
# images with a separate header (.nhdr, .mhd): the segmentation is one file
NRRD = _itk("NRRD", (".nrrd", ".seg.nrrd", ".nhdr"), written_as={".nhdr": ".nrrd", ".seg.nrrd": ".nrrd"})
MHA = _itk("MHA", (".mha", ".mhd"), written_as={".mhd": ".mha"})
