"""Results as files: the format of the input and exactly its grid. Every file is written aside and renamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unetpp.data import png, scratch
from unetpp.data.decoders import ItkGrid
from unetpp.data.formats import ITK_SUFFIXES, NIFTI_SUFFIXES, suffix_of
from unetpp.data.volume import Geometry
from unetpp.errors import UsageError, optional_package
from unetpp.files import written_aside
from unetpp.slabs import slabs

TILE = 512
"""Rows and columns of the tiles in which a large TIFF is written, as viewers like it."""
_OTHER_SUFFIX = {
    ".jpg": ".png",  # JPEG would change the class numbers
    ".jpeg": ".png",
    ".mhd": ".mha",  # the same headers with the voxels in the same file
    ".nhdr": ".nrrd",
    ".ome.tif": ".tif",
    ".ome.tiff": ".tiff",
}


def output_suffix(geometry: Geometry) -> str:
    """Suffix of the segmentation of an image: the image's own, unless its format cannot hold class numbers in one file."""
    return _OTHER_SUFFIX.get(geometry.suffix, geometry.suffix)


def map_suffix(geometry: Geometry) -> str:
    """Suffix of a map of numbers with a fraction: the image's own if it is a medical format, else TIFF."""
    suffix = output_suffix(geometry)
    return suffix if suffix in NIFTI_SUFFIXES + ITK_SUFFIXES else ".tif"


def write_segmentation(segmentation: np.ndarray, geometry: Geometry, path: str | Path) -> None:
    """Write class numbers (*spatial), uint8 or uint16, on the grid `geometry`. The suffix of `path` is `output_suffix(geometry)`.

    Raises:
        WriteError: no space, no permission; what was at `path` before is intact.
    """
    _write(segmentation, geometry, Path(path), output_suffix(geometry))


def write_map(values: np.ndarray, geometry: Geometry, path: str | Path) -> None:
    """Write probabilities or uncertainties (*spatial) as float32. The suffix of `path` is `map_suffix(geometry)`. Raises as `write_segmentation`."""
    _write(np.asanyarray(values, dtype=np.float32), geometry, Path(path), map_suffix(geometry))


def _write(array: np.ndarray, geometry: Geometry, path: Path, expected: str) -> None:
    if suffix_of(path) != expected:
        raise UsageError(
            f"{path}: got the suffix {suffix_of(path)!r}; expected {expected!r}, as the input {geometry.suffix!r} asks for. Name the file so."
        )
    with written_aside(path) as aside:
        _encoder(expected)(array, geometry, aside)


def _encoder(suffix: str) -> Callable[[np.ndarray, Geometry, Path], None]:
    if suffix in NIFTI_SUFFIXES:
        return _write_nifti
    if suffix in ITK_SUFFIXES:
        return _write_itk
    return _write_tiff if suffix in (".tif", ".tiff") else _write_raster


def _write_raster(array: np.ndarray, geometry: Geometry, path: Path) -> None:
    if array.nbytes > scratch.LARGE and suffix_of(path) == ".png" and array.dtype in (np.uint8, np.uint16):
        png.write_rows(_row_blocks(array), array.shape, array.dtype, path, geometry.header)
        return
    from PIL import Image

    options = {"dpi": geometry.header} if geometry.header else {}
    Image.fromarray(array).save(path, **options)


def _write_tiff(array: np.ndarray, geometry: Geometry, path: Path) -> None:
    import tifffile

    options: dict[str, Any] = dict(geometry.header) if isinstance(geometry.header, dict) else {}
    imagej = options.pop("imagej", None)
    axes = {"axes": "ZYX"[-array.ndim :]}
    if imagej is not None:  # ImageJ keeps the distance of planes in its own tag; its files are not compressed
        options |= {"imagej": True, "metadata": axes | imagej}
    else:
        options |= {
            "metadata": axes,
            "compression": "deflate",
            "bigtiff": array.nbytes > 2**31,
            "buffersize": png.PIECE,
        }
    if array.nbytes > scratch.LARGE and array.ndim == 2 and imagej is None:
        tifffile.imwrite(
            path,
            _tiles(array),
            shape=array.shape,
            dtype=array.dtype,
            tile=(TILE, TILE),
            photometric="minisblack",
            **options,
        )
    else:
        tifffile.imwrite(path, array, photometric="minisblack", **options)


def _row_blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    for slices in slabs(array.shape):
        yield array[slices]
        scratch.release(array)


def _tiles(array: np.ndarray) -> Iterator[np.ndarray]:
    for row in range(0, array.shape[0], TILE):
        yield from (array[row : row + TILE, column : column + TILE] for column in range(0, array.shape[1], TILE))
        scratch.release(array)


def _write_nifti(array: np.ndarray, geometry: Geometry, path: Path) -> None:
    import nibabel

    header = None if geometry.header is None else geometry.header.copy()
    image_class = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    if header is not None:
        header.set_data_dtype(array.dtype)
        header.set_slope_inter(1, 0)
        header.set_intent("none")
        header["cal_min"] = header["cal_max"] = 0  # the display window of the image, not of its classes
    affine = geometry.affine if header is None else None  # None: the header's own, to the last bit
    nibabel.save(image_class(array.T, affine, header), path)


def _write_itk(array: np.ndarray, geometry: Geometry, path: Path) -> None:
    with optional_package("SimpleITK", "medical", f"Writing {suffix_of(path)} files"):
        import SimpleITK
    image = SimpleITK.GetImageFromArray(array)
    if isinstance(grid := geometry.header, ItkGrid):
        image.SetSpacing(grid.spacing)
        image.SetOrigin(grid.origin)
        image.SetDirection(grid.direction)
    try:
        SimpleITK.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:  # no space left, and all else
        raise OSError(str(error).strip().splitlines()[-1]) from error
