"""What NRRD and MetaImage share: text headers, and the grid of ITK.

Both are read here, since the C++ library of ITK ends the process at some damaged headers; it writes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetpp.formats.format import FileRefused, Format
from unetpp.formats.raw_voxels import VoxelSource
from unetpp.formats.voxel_file import LONGEST_HEADER, StoredVoxels, load_stored
from unetpp.volume import Geometry, Segment, Volume

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LONGEST_NUMBER = 40
_CORRECT = "Correct the header of the file, or restore it from the original."


@dataclass(frozen=True)
class Grid:
    """Grid of the file, without rounding, x first, in the space of ITK (left, posterior, superior)."""

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    """Columns are the directions of the axes."""


@dataclass(frozen=True)
class ItkFile:
    """What a header says."""

    voxels: StoredVoxels
    channel_axis: int | None
    """Axis of `voxels` that holds components, a series or layers."""
    grid: Grid
    is_placed: bool = True
    segments: tuple[Segment, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape."""
        return tuple(size for axis, size in enumerate(self.voxels.shape) if axis != self.channel_axis)

    def make_geometry(self, suffix: str) -> Geometry:
        """Return the grid as that of a file with this suffix."""
        affine = _compute_affine(self.grid) if len(self.grid.spacing) == 3 else None
        spacing = tuple(reversed(self.grid.spacing))
        return Geometry(suffix, spacing, affine, self.grid, is_placed=self.is_placed)

    def open(self, path: Path, suffix: str) -> VoxelSource:
        """Open the voxels, channels first."""
        stored = load_stored(path, self.voxels)
        arranged = stored[None] if self.channel_axis is None else np.moveaxis(stored, self.channel_axis, 0)
        return VoxelSource(arranged, self.make_geometry(suffix))


def make_format(
    name: str, suffixes: tuple[str, ...], read_header: Callable[[Path], ItkFile], written_as: Mapping[str, str]
) -> Format:
    """Make a format of a function that reads headers.

    Args:
        name: name in messages.
        suffixes: of its files.
        read_header: reads a header.
        written_as: suffix of segmentations, for those image suffixes that cannot be written.
    """

    def open_source(path: Path, suffix: str) -> VoxelSource:
        return read_header(path).open(path, suffix)

    def read(path: Path, suffix: str) -> Volume:
        header = read_header(path)
        source = header.open(path, suffix)
        return Volume(source.read_all(), source.geometry, segments=header.segments)

    def read_grid(path: Path, suffix: str) -> tuple[tuple[int, ...], Geometry]:
        header = read_header(path)
        return header.shape, header.make_geometry(suffix)

    def list_companions(path: Path) -> tuple[Path, ...]:
        return tuple(file for file in read_header(path).voxels.files if file != path)

    return Format(
        name,
        suffixes,
        read,
        open_source,
        grid=read_grid,
        write=_write,
        medical=True,
        written_as=written_as,
        companions=list_companions,
        needs=("SimpleITK", "medical"),
    )


def read_header_lines(path: Path, is_last: Callable[[str], bool]) -> tuple[list[str], int]:
    """Read the lines of a text header.

    Args:
        path: the file.
        is_last: recognizes the last line, without its end.

    Returns:
        The lines up to the last one or the end of the file, and the place of the first byte after them.

    Raises:
        FileRefused: the header has no end.
    """
    lines: list[str] = []
    with path.open("rb") as stream:
        while line := stream.readline(LONGEST_HEADER - stream.tell()):
            text = line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
            lines.append(text)
            if is_last(text):
                break
            if stream.tell() >= LONGEST_HEADER:
                got = f"a header of more than {LONGEST_HEADER:,} bytes"
                raise FileRefused(got, "a page of text before the voxels", _CORRECT)
        if lines and not lines[-1] and not line.strip():
            lines.pop()
        return lines, stream.tell()


def parse_integers(text: str, name: str, least: int = 1, most: int = 2**40) -> tuple[int, ...]:
    """Parse whole numbers between two limits, at least one.

    Args:
        text: numbers with spaces between them.
        name: the field, for the message.
        least: smallest one.
        most: largest one.

    Raises:
        FileRefused: no numbers, or others.
    """
    words = text.split()
    if not words or not all(re.fullmatch(r"[+-]?[0-9]{1,15}", word) and least <= int(word) <= most for word in words):
        got, expected = f"the header field {name}: {text[:40]}", f"whole numbers of {least:,} to {most:,}"
        raise FileRefused(got, expected, _CORRECT)
    return tuple(map(int, words))


def parse_floats(text: str, name: str) -> tuple[float, ...]:
    """Parse numbers; arguments and errors as of `parse_integers`."""
    words = text.split()
    try:
        if not words or any("_" in word or len(word) > _LONGEST_NUMBER for word in words):
            raise ValueError
        return tuple(map(float, words))
    except ValueError:
        raise FileRefused(f"the header field {name}: {text[:40]}", "numbers", _CORRECT) from None


def _compute_affine(grid: Grid) -> np.ndarray:
    affine = np.eye(4)
    with np.errstate(all="ignore"):  # what is not finite is refused where images are checked
        affine[:3, :3] = np.reshape(grid.direction, (3, 3)) * grid.spacing
        affine[:3, 3] = grid.origin
        return np.asarray(_LPS_TO_RAS @ affine)


def _write(array: np.ndarray, geometry: Geometry, path: Path) -> None:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(array)
    if isinstance(grid := geometry.header, Grid):
        image.SetSpacing(grid.spacing)
        image.SetOrigin(grid.origin)
        image.SetDirection(grid.direction)
    try:
        SimpleITK.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:  # such as no space left
        raise OSError(str(error).strip().splitlines()[-1]) from error
