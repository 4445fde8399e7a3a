"""What each file format holds, as (array (C, *spatial), geometry). May raise anything: `readers` is the door that names the problem.

`label=True` keeps the numbers of a palette as they are, where an image gets their colours.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike

from unetpp.data import png, scratch
from unetpp.data.formats import ITK_SUFFIXES, NIFTI_SUFFIXES, RASTER_SUFFIXES, TIFF_SUFFIXES, suffix_of
from unetpp.data.png import PIECE
from unetpp.data.volume import Geometry
from unetpp.errors import DataError, Problem, optional_package
from unetpp.slabs import slabs

Decoded = tuple[np.ndarray, Geometry]

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

logging.getLogger("tifffile").addHandler(
    logging.NullHandler()
)  # else its remarks on a broken file appear beside our message


@dataclass(frozen=True)
class ItkGrid:
    """Grid of an NRRD or MetaImage file, to the last digit."""

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]


def file_format(path: Path) -> str:
    """`raster`, `tiff`, `nifti` or `itk`. PNG, JPEG, BMP and TIFF are told apart by content: users rename them."""
    suffix = suffix_of(path)
    if suffix in NIFTI_SUFFIXES:
        return "nifti"
    if suffix in ITK_SUFFIXES:
        return "itk"
    if suffix in RASTER_SUFFIXES + TIFF_SUFFIXES:
        with path.open("rb") as stream:
            return "tiff" if stream.read(4) in _TIFF_MAGIC else "raster"
    raise DataError(
        Problem(
            str(path),
            f"the unknown type {suffix or 'of a name without a suffix'}",
            "PNG, JPEG, BMP, TIFF, NIfTI, NRRD or MHA",
            "Convert the file to one of these.",
        )
    )


def decode(path: Path, label: bool = False) -> Decoded:
    """Decode a whole file of any format but `raster`, whose sources are lazy."""
    return {"tiff": decode_tiff, "nifti": decode_nifti, "itk": decode_itk}[file_format(path)](path, label)


def open_raster(path: Path, header_only: bool = False) -> Any:
    """The decoded Pillow image of a PNG, JPEG or BMP file, as the camera's orientation tag shows it; or what its header says.

    The format's class is called directly: `Image.open` refuses images above 179 million pixels.
    """
    from PIL import ImageOps

    with path.open("rb") as stream:
        image = _raster_class(stream)(stream)
        if header_only:
            return image
        image.load()
    image.info.pop("transparency", None)
    ImageOps.exif_transpose(image, in_place=True)
    return image


def raster_geometry(path: Path, image: Any) -> Geometry:
    return Geometry(suffix_of(path), header=image.info.get("dpi"))


def is_deep_colour(path: Path) -> bool:
    """True for a PNG of 16 bits and several channels, of which Pillow would keep 8."""
    with path.open("rb") as stream:
        head = stream.read(26)
    return head.startswith(b"\x89PNG") and len(head) == 26 and head[24] == 16 and head[25] != 0


def decode_large_png(path: Path) -> Decoded | None:
    """A PNG that is large, unpacked onto disk; None where it is not, or cannot be read by rows."""
    header = png.header_of(path)
    if header is None or header.row_bytes * header.height <= scratch.LARGE or png.may_be_turned(path):
        return None
    geometry = raster_geometry(
        path, open_raster(path, header_only=True)
    )  # a damaged header is found before anything is unpacked
    colours = 3 if header.samples >= 3 else 1
    array = scratch.new_array((header.height, header.width, colours), np.uint8 if header.bits == 8 else np.uint16)
    row = 0
    for pixels in png.read_rows(path, header):
        array[row : row + len(pixels)] = pixels[..., :colours]  # without alpha
        row += len(pixels)
        scratch.release(array)
    return np.moveaxis(array, -1, 0), geometry


def decode_deep_png(path: Path) -> np.ndarray:
    from imagecodecs import png_decode

    pixels = np.moveaxis(png_decode(path.read_bytes()), -1, 0)
    return pixels[: 3 if len(pixels) >= 3 else 1]  # without alpha


def raster_pixels(image: Any, label: bool = False) -> np.ndarray:
    """Pixels (C, Y, X) of a Pillow image: C is 1 for grey, 3 for colour; alpha is dropped."""
    if label and image.mode in ("P", "PA"):
        return np.atleast_3d(np.asarray(image))[None, :, :, 0]
    mode = raster_mode(image)
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def raster_mode(image: Any) -> str:
    """The Pillow mode whose pixels we hand out."""
    if image.mode in ("1", "L", "LA", "La"):
        return "L"
    return str(image.mode) if image.mode in ("I", "F") or image.mode.startswith("I;16") else "RGB"


def decode_tiff(path: Path, label: bool) -> Decoded:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        if _is_cut(tiff):
            raise ValueError("the file ends before its last page")
        series, page = tiff.series[0], tiff.pages.first
        array = series.asarray() if series.nbytes <= scratch.LARGE else _large_series(series)
        array = _tiff_channels_first(array, series.axes)
        header = (
            {"resolution": page.resolution, "resolutionunit": page.resolutionunit} if "XResolution" in page.tags else {}
        )
        if tiff.is_imagej:
            header["imagej"] = {
                key: tiff.imagej_metadata[key] for key in ("spacing", "unit") if key in tiff.imagej_metadata
            }
        # whatever it is called: what is written for it is a TIFF too
        return _tiff_samples(array, page, label), Geometry(
            suffix_of(path) if suffix_of(path) in TIFF_SUFFIXES else ".tif", header=header
        )


def _large_series(series: Any) -> np.ndarray:
    """The array of a series: the file itself, or unpacked onto disk tile by tile."""
    mapped = series.dataoffset is not None and series.keyframe.is_memmappable
    if (
        mapped
        or series.is_multifile
        or series.transform is not None
        or series.is_truncated
        or len(series) * prod(series.keyframe.shaped) != prod(series.shape)
    ):
        return np.asanyarray(series.asarray(out="memmap"))  # as tifffile does it
    array = scratch.new_array(series.shape, series.dtype)
    planes = array.reshape(len(series), *series.keyframe.shaped)  # separate samples, depth, rows, columns, samples
    for plane, page in zip(planes, series, strict=True):
        if page is None:
            plane[...] = 0
            continue

        def store(
            decoded: tuple[np.ndarray | None, tuple[int, ...], tuple[int, ...]], plane: np.ndarray = plane
        ) -> None:
            segment, (sample, depth, row, column, _), shape = decoded
            inside = plane[sample, depth : depth + shape[0], row : row + shape[1], column : column + shape[2]]
            inside[...] = (
                series.keyframe.nodata if segment is None else segment[tuple(slice(size) for size in inside.shape)]
            )

        for _ in page.segments(
            func=store, sort=True, buffersize=PIECE
        ):  # stored by the threads that decode: nothing waits in memory
            scratch.release(array)
    return array


def decode_nifti(path: Path, label: bool) -> Decoded:
    import nibabel

    image: Any = nibabel.load(path)
    data = np.asanyarray(image.dataobj)
    if data.dtype.fields:
        data = np.stack([data[name] for name in data.dtype.fields], axis=-1)
    array = data.T  # (X, Y, Z, time, C) to (C, time, Z, Y, X)
    if array.ndim == 5 and array.shape[1] == 1:
        array = array[:, 0]
    array = array[None] if array.ndim in (2, 3) else array
    scale = _MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
    zooms = image.header.get_zooms()[: min(data.ndim, 3)]
    spacing = tuple(float(zoom) * scale for zoom in reversed(zooms))
    return array, Geometry(suffix_of(path), spacing, np.diag([scale] * 3 + [1.0]) @ image.affine, image.header)


def decode_itk(path: Path, label: bool) -> Decoded:
    with optional_package("SimpleITK", "medical", f"Reading {suffix_of(path)} files"):
        import SimpleITK
    image = SimpleITK.ReadImage(str(path))
    array = SimpleITK.GetArrayFromImage(image)
    array = np.moveaxis(array, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else array[None]
    grid = ItkGrid(image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    affine = _itk_affine(grid) if image.GetDimension() == 3 else None
    return array, Geometry(suffix_of(path), tuple(reversed(grid.spacing)), affine, grid)


def _raster_class(stream: IO[bytes]) -> Any:
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    magic = stream.read(8)
    stream.seek(0)
    for start, plugin in ((b"\x89PNG", PngImageFile), (b"\xff\xd8\xff", JpegImageFile), (b"BM", BmpImageFile)):
        if magic.startswith(start):
            return plugin
    raise ValueError("its content is none of PNG, JPEG, BMP and TIFF")


def _is_cut(tiff: Any) -> bool:
    """True where the last page that is there points to one that is not; tifffile would leave it out silently."""
    len(tiff.pages)  # reads them all
    size = tiff.tiff.offsetsize
    tiff.filehandle.seek(tiff.pages.next_page_offset)
    return any(tiff.filehandle.read(size))


def _tiff_channels_first(array: np.ndarray, axes: str) -> np.ndarray:
    """Bring the axes of tifffile (S, C: channels; Y, X; all others: planes of a volume) into the order (C, [Z,] Y, X)."""
    keep = [axis for axis, size in enumerate(array.shape) if size > 1 or axes[axis] in "YX"]
    array = array.reshape([array.shape[axis] for axis in keep])
    kinds = "".join("C" if axes[axis] in "SC" else axes[axis] if axes[axis] in "YX" else "Z" for axis in keep)
    if sorted(kinds.replace("C", "", 1).replace("Z", "", 1)) != ["X", "Y"]:
        raise ValueError(f"axes {axes} of sizes {array.shape} are more than channels, planes, rows and columns")
    array = array if "C" in kinds else array[None]
    kinds = kinds if "C" in kinds else "C" + kinds
    return array.transpose([kinds.index(kind) for kind in "CZYX" if kind in kinds])


def _tiff_samples(array: np.ndarray, page: Any, label: bool) -> np.ndarray:
    """Drop alpha, give palettes their colours, and make bits 0 and 255 with 255 the bright one."""
    photometric = getattr(page.photometric, "name", "")
    if photometric == "PALETTE" and not label:
        colours = np.asarray(page.colormap >> 8, dtype=np.uint8)
        return _changed(array, lambda block: colours[:, block[0]], 3, np.uint8)
    if array.dtype == bool:
        return _changed(
            array, lambda block: np.where(block == (photometric != "MINISWHITE"), 255, 0), len(array), np.uint8
        )
    if photometric == "MINISWHITE" and array.dtype.kind == "u" and not label:
        return _changed(array, lambda block: np.iinfo(array.dtype).max - block, len(array), array.dtype)
    visible = {"RGB": 3, "YCBCR": 3, "MINISBLACK": 1}.get(photometric, len(array))
    has_alpha = any(sample in (1, 2) for sample in page.extrasamples)
    return array[:visible] if has_alpha and len(array) == visible + 1 else array


def _changed(
    array: np.ndarray, change: Callable[[np.ndarray], np.ndarray], channels: int, dtype: DTypeLike
) -> np.ndarray:
    """What `change` makes of (C, *spatial), piece by piece, as the whole may be huge."""
    found = scratch.new_array((channels, *array.shape[1:]), dtype)
    for slices in slabs(array.shape[1:]):
        found[(slice(None), *slices)] = change(array[(slice(None), *slices)])
        scratch.release(found)
        scratch.release(array)
    return found


def _itk_affine(grid: ItkGrid) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(grid.direction, (3, 3)) * grid.spacing
    affine[:3, 3] = grid.origin
    return _LPS_TO_RAS @ affine
