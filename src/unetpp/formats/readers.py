"""Reading of image and label files of all formats. Every failure of a file becomes a DataError with one Problem."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from unetpp.errors import DataError, Problem, UnetppError, find_missing
from unetpp.formats import detect_format, is_image, suffix_of
from unetpp.formats.format import FileRefused, Format
from unetpp.formats.sources import ArraySource, ImageSource, StackedSource
from unetpp.volume import Geometry, Volume
from unetpp.words import say_permit

_UNSUPPORTED = ("not supported", "unsupported", "not implemented", "cannot handle", "not a known", "exceeds limit")
"""Words of decoders about files that may be whole."""
_SMALLEST_MM, _LARGEST_MM = 1e-9, 1e9
_RESTORE = "Restore it from the original, or remove it."


def open_image(path: Path, axes: str | None = None) -> ImageSource:
    """Open an image for reading in blocks.

    Args:
        path: path of the file.
        axes: axes of TIFF and NumPy files in their order, such as "CYX"; None: as the file says.

    Raises:
        DataError: the file cannot be read as an image.
        MissingExtraError: the format needs an optional package that is absent.
    """
    with _open_format(path) as format:
        source = format.source(path, suffix_of(path), axes)
        _check(source)
        return source


def open_images(paths: Sequence[Path], axes: str | None = None) -> ImageSource:
    """Open the files of one case; the channels of several are concatenated. `axes` as of `open_image`.

    Raises:
        DataError: as `open_image`, or the files do not lie on the same grid.
    """
    sources = [open_image(path, axes) for path in paths]
    for path, source in zip(paths, sources, strict=True):
        if source.shape[1:] != sources[0].shape[1:] or not source.geometry.matches(sources[0].geometry):
            raise make_grid_error(path, source.shape[1:], paths[0], sources[0].shape[1:])
    return sources[0] if len(sources) == 1 else StackedSource(sources)


def read_grid(path: Path, axes: str | None = None) -> tuple[tuple[int, ...], Geometry]:
    """Read spatial shape and geometry of an image, from the header where the format can, as `open_image`."""
    with _open_format(path) as format:
        if format.grid is not None:
            return format.grid(path, suffix_of(path))
    source = open_image(path, axes)
    return source.shape[1:], source.geometry


def read_image(path: Path, axes: str | None = None) -> Volume:
    """Read a whole image. Arguments and errors as of `open_image`."""
    return read_images((path,), axes)


def read_images(paths: Sequence[Path], axes: str | None = None) -> Volume:
    """Read the whole image of one case, of one or several files. Arguments and errors as of `open_images`."""
    source = open_images(paths, axes)
    return Volume(source.read((slice(None),) * (len(source.shape) - 1)), source.geometry)


def read_label(path: Path, axes: str | None = None) -> Volume:
    """Read a label as its file stores it; `labels` knows what its numbers and colors mean.

    Args:
        path: path of the file.
        axes: axes that the user has set for the images, where they fit the label too.

    Raises:
        DataError: as `open_image`.
    """
    with _open_format(path) as format:
        label = format.label(path, suffix_of(path), axes)
        _check(ArraySource(label.array, label.geometry))
        native = label.array.dtype.newbyteorder("=")
        return replace(label, array=np.ascontiguousarray(label.array, dtype=native))


def describe_shape(shape: tuple[int, ...]) -> str:
    """Format a spatial shape: 1040 x 1388 pixels, 35 x 51 x 35 voxels."""
    unit = {2: "pixels", 3: "voxels"}.get(len(shape), "values")
    return f"{' x '.join(str(size) for size in shape)} {unit}"


@contextmanager
def _open_format(path: Path) -> Iterator[Format]:
    """Yield the format of a file; turn failures of the operating system and of decoders into a DataError."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # opening a pipe would wait for its other end
            raise _make_error(path, "a pipe or a device", "a file", "Remove it.")
        if not (path.is_dir() and is_image(path)):
            with path.open("rb") as stream:
                if not stream.read(1):
                    raise _make_error(path, "an empty file (0 bytes)", "an image", _RESTORE)
        format = detect_format(path)
        with format.packages(f"Reading {suffix_of(path)} files"):
            yield format
    except MemoryError as error:  # a file too large for this machine, or a corrupt header
        got = f"an image that does not fit into memory{f' ({error})' if str(error) else ''}"
        action = "Check that the file is whole; if it is, cut it into pieces or use a machine with more memory."
        raise _make_error(path, got, "one that does", action, "size") from error
    except UnetppError:
        raise
    except FileRefused as refused:
        raise _make_error(path, refused.got, refused.expected, refused.action) from None
    except FileNotFoundError:
        raise _make_error(path, "no such file", "an image", "Check the name.") from None
    except PermissionError:
        got = "a file that may not be read (permission denied)"
        raise _make_error(path, got, "a readable file", say_permit(path)) from None
    except IsADirectoryError:
        raise _make_error(path, "a folder", "a file", "Name the files in it, or remove it.") from None
    except Exception as error:  # decoders raise anything
        if missing := find_missing(error, f"Reading {suffix_of(path)} files"):
            raise missing from None
        cause = _describe_cause(error)
        if isinstance(error, NotImplementedError) or any(word in cause.lower() for word in _UNSUPPORTED):
            got, action = (
                f"a file of a kind that is not read ({cause})",
                "Convert it, for example to an uncompressed TIFF.",
            )
            raise _make_error(path, got, "an image that the decoder supports", action) from None
        got = f"a file that is truncated or not an image ({cause})"
        raise _make_error(path, got, f"a whole {suffix_of(path)} image", _RESTORE) from None


def _make_error(path: Path, got: str, expected: str, action: str, topic: str = "file") -> DataError:
    return DataError(Problem(str(path), got, expected, action, topic=topic))


def _describe_cause(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:160]


def _check(source: ImageSource) -> None:
    """Refuse decoded arrays that are not images."""
    if source.dtype.kind not in "biuf":
        got = f"an array of {source.dtype}" + (" (complex numbers)" if source.dtype.kind == "c" else "")
        raise FileRefused(
            got, "whole or floating-point numbers", "Save the part that shows the image, or the magnitude."
        )
    if len(source.shape) not in (3, 4):
        got = f"an array of {len(source.shape) - 1} axes besides the channels"
        raise FileRefused(got, "two (an image) or three (a volume)", "Save each image or volume as a file of its own.")
    if prod(source.shape) == 0:
        raise ValueError("it has no pixels")
    spacing = source.geometry.spacing_mm
    if spacing is not None and not all(_SMALLEST_MM < step < _LARGEST_MM for step in spacing):
        raise FileRefused(
            f"a spacing of {spacing} mm",
            f"voxels of {_SMALLEST_MM:g} to {_LARGEST_MM:g} mm",
            "Correct the header of the file.",
        )
    if source.geometry.affine is not None and not _is_place(source.geometry.affine):
        got, expected = "a header that gives its voxels no place in space", "three directions and an origin"
        raise FileRefused(got, expected, "Correct the header of the file.")


def _is_place(affine: np.ndarray) -> bool:
    """Tell whether the axes of a place are finite and point in different directions."""
    with np.errstate(all="ignore"):
        directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.isfinite(affine).all() and np.isfinite(directions).all()) and abs(np.linalg.det(directions)) > 1e-6


def make_grid_error(path: Path, got: tuple[int, ...], first: Path, expected: tuple[int, ...]) -> DataError:
    """Describe a file of a case that lies on another grid than the first: another spatial shape, or another place."""
    if got == expected:
        action = "Resample the files of one case onto one grid."
        return _make_error(path, "another spacing, origin or direction", f"that of {first.name}", action, "grid")
    action = "The files of one case must have the same size."
    return _make_error(path, describe_shape(got), f"{describe_shape(expected)}, as {first.name}", action, "grid")
