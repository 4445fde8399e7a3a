"""NIfTI and Analyze, one file or a pair, by nibabel. A segmentation gets the header and the grid of its image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unetpp.errors import DataError, Problem
from unetpp.formats.format import Format
from unetpp.formats.nifti_place import Place, find_place
from unetpp.formats.raw_voxels import VoxelSource, load_voxels, open_unpacked
from unetpp.volume import Geometry, Volume

_MILLIMETERS = {"meter": 1000.0, "micron": 0.001}
_LONGEST_HEADER = 2**26
"""Bytes before the voxels, extensions included: more is no header."""
_CIFTI_INTENTS = range(3000, 3100)
_VOXELS, _PLACES = (".img", ".img.gz", ".IMG"), (".mat", ".mat.gz")
"""Endings of the files beside a header by itself."""


def _open(path: Path, suffix: str) -> VoxelSource:
    header, data_path = _read_header(path)
    geometry = _make_geometry(path, suffix, header)
    stored = _arrange_axes(load_voxels(data_path, *_describe_voxels(path, header)))
    return VoxelSource(stored, geometry, _find_scale(header))


def _read_grid(path: Path, suffix: str) -> tuple[tuple[int, ...], Geometry]:
    header, _ = _read_header(path)
    shape, _, _ = _describe_voxels(path, header)
    return shape[-3:], _make_geometry(path, suffix, header)


def _make_geometry(path: Path, suffix: str, header: Any) -> Geometry:
    with np.errstate(all="ignore"):  # of a header that is none; the reader refuses what is not finite
        place = _find_place(path, header)
    spacing = tuple(reversed(place.sizes[: len(header.get_data_shape())]))
    own_header = header if hasattr(header, "get_sform") else None
    return Geometry(
        suffix, spacing, place.affine, own_header, place.others, is_placed=place.is_placed, notes=place.notes
    )


def _read(path: Path, suffix: str) -> Volume:
    source = _open(path, suffix)
    return Volume(source.read_all(), source.geometry)


def _read_header(path: Path) -> tuple[Any, Path]:
    """Read the header, and name the file of its voxels."""
    with open_unpacked(path) as stream:
        header_class, is_pair = _choose_header(stream.read(540))
        stream.seek(0)
        plain = header_class(stream.read(header_class.template_dtype.itemsize), check=False)
        if not 0 <= float(plain.get("vox_offset", 0)) <= _LONGEST_HEADER:
            raise ValueError(f"its header says that voxels begin at byte {plain['vox_offset']}")
        stream.seek(0)
        header = header_class.from_fileobj(stream, check=False)
    return header, _find_partner(path) if is_pair else path


def _choose_header(head: bytes) -> tuple[Any, bool]:
    """Choose the class of nibabel for a header, and tell whether the voxels lie in another file."""
    import nibabel

    marks = {
        b"n+1": (nibabel.Nifti1Header, False),
        b"ni1": (nibabel.nifti1.Nifti1PairHeader, True),
        b"n+2": (nibabel.Nifti2Header, False),
        b"ni2": (nibabel.nifti2.Nifti2PairHeader, True),
    }
    for start in (344, 4):
        if (found := marks.get(head[start : start + 3])) is not None:
            return found
    if 348 in (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")):
        return nibabel.spm2analyze.Spm2AnalyzeHeader, True
    raise ValueError("its content is no NIfTI header")


def _find_partner(path: Path) -> Path:
    """Find the file with the voxels of a pair."""
    names = [f"{_find_stem(path)}{ending}" for ending in _VOXELS]
    for name in names:
        if path.with_name(name).is_file():
            return path.with_name(name)
    action = "Put it beside the header."
    raise DataError(Problem(str(path), "a header without its voxels", "a file .img of the same name", action))


def _list_companions(path: Path) -> tuple[Path, ...]:
    """List the voxels and the place of a header by itself."""
    endings = (*_VOXELS, *_PLACES) if path.name.lower().endswith((".hdr", ".hdr.gz")) else ()
    files = (path.with_name(f"{_find_stem(path)}{ending}") for ending in endings)
    return tuple(file for file in files if file.is_file())


def _find_stem(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).stem


def _find_place(path: Path, header: Any) -> Place:
    if not hasattr(header, "get_sform"):
        return _find_analyze_place(path, header)
    if int(header["intent_code"]) in _CIFTI_INTENTS:
        got = "a CIFTI file: a table of surface points and voxels"
        raise DataError(Problem(str(path), got, "an image or a volume", "Export it as a volume, or leave it out."))
    unit = header.get_xyzt_units()[0] if int(header["xyzt_units"]) & 7 in (0, 1, 2, 3) else "unknown"
    return find_place(header, _MILLIMETERS.get(unit, 1.0))


def _find_analyze_place(path: Path, header: Any) -> Place:
    """Find the place of an Analyze image: that of its .mat file (SPM); without one, each program has its own."""
    import nibabel

    header["pixdim"][1:4] = np.where(header["pixdim"][1:4] == 0, 1, np.abs(header["pixdim"][1:4]))
    x, y, z = (float(size) for size in header["pixdim"][1:4])
    is_placed = any(path.with_name(f"{_find_stem(path)}{ending}").is_file() for ending in _PLACES)
    affine = nibabel.load(path).affine if is_placed else header.get_best_affine()
    return Place(affine, (header.get_base_affine(),), is_placed, (x, y, z), ())


def _describe_voxels(path: Path, header: Any) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return shape (the slowest axis first), number type and offset of the voxels."""
    shape = tuple(int(size) for size in header.get_data_shape())
    if any(size < 0 for size in shape):
        raise ValueError(f"its header says that its size is {shape}")
    if len(shape) > 4 and shape[3:] != (1, shape[-1]):
        got = f"an array of {len(shape)} axes ({' x '.join(map(str, shape))})"
        action = "Save each volume as a file of its own, or channels as the only fourth axis."
        raise DataError(Problem(str(path), got, "at most three axes of space and one of channels", action))
    try:
        dtype = header.get_data_dtype()
    except Exception:  # a code that nibabel does not know
        _refuse_numbers(path, f"numbers of a type that NIfTI does not define (code {int(header['datatype'])})")
    if dtype.kind == "c":
        _refuse_numbers(path, f"complex numbers ({dtype.newbyteorder('=')})")
    if dtype.itemsize == 0 or (dtype.kind == "V" and not dtype.fields):
        _refuse_numbers(path, "single bits")
    offset = int(header.get_data_offset())
    is_single = getattr(header, "is_single", False)
    return shape[::-1], dtype, max(offset, int(header.single_vox_offset)) if is_single else offset


def _refuse_numbers(path: Path, got: str) -> None:
    action = "Save its magnitude or phase, as real numbers." if "complex" in got else "Convert it."
    raise DataError(Problem(str(path), got, "real numbers, one for each voxel", action))


def _arrange_axes(stored: np.ndarray) -> np.ndarray:
    """Arrange (C, time, Z, Y, X) as stored to (C, *spatial)."""
    if stored.dtype.fields:  # colors
        count = len(stored.dtype.fields)
        return np.moveaxis(stored.view(np.uint8).reshape(*stored.shape, count), -1, 0)
    if stored.ndim == 5 and stored.shape[1] == 1:
        return stored[:, 0]
    return stored[None] if stored.ndim in (1, 2, 3) else stored


def _find_scale(header: Any) -> tuple[float, float] | None:
    """Return slope and intercept of the stored numbers; None: they are as stored."""
    if header.get_data_dtype().fields:  # colors have no scale
        return None
    try:
        slope, intercept = header.get_slope_inter()
    except Exception:  # a slope that is no number scales nothing
        return None
    if slope is None or (slope, intercept or 0.0) == (1.0, 0.0):
        return None
    return float(slope), float(intercept or 0.0)


def _write(array: np.ndarray, geometry: Geometry, path: Path) -> None:
    import nibabel

    header = None if geometry.header is None else geometry.header.copy()
    image_class = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    if header is not None:
        header.set_data_dtype(array.dtype)
        header.set_slope_inter(1, 0)
        header.set_intent("none")
        header["cal_min"] = header["cal_max"] = 0  # the display window belongs to the image
        _shorten_quaternion(header)
    affine = geometry.affine if header is None else None  # None: that of the header, unrounded
    nibabel.save(image_class(array.T, affine, header), path)


def _shorten_quaternion(header: Any) -> None:
    """Shorten a quaternion that rounding made longer than 1, so that every program reads the result."""
    parts = [float(header[name]) for name in ("quatern_b", "quatern_c", "quatern_d")]
    length = float(np.linalg.norm(parts))
    if length > 1:
        for name, part in zip(("quatern_b", "quatern_c", "quatern_d"), parts, strict=True):
            header[name] = part / length


NIFTI = Format(
    "NIfTI",
    (".nii", ".nii.gz", ".hdr", ".hdr.gz"),
    read=_read,
    open=_open,
    grid=_read_grid,
    write=_write,
    medical=True,
    written_as={".hdr": ".nii.gz", ".hdr.gz": ".nii.gz"},
    companions=_list_companions,
)
