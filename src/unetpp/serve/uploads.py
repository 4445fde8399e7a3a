"""Uploaded files: names made harmless, streamed to disk, and their headers looked at before anything is decoded."""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections.abc import Sequence
from math import prod
from pathlib import Path, PurePosixPath

from PIL import Image
from starlette.datastructures import UploadFile

from unetpp.errors import failures_of
from unetpp.formats import detect_format, is_companion, is_image, stem_of, suffix_of
from unetpp.formats.format import FileRefused
from unetpp.formats.readers import describe_shape, open_image, read_grid
from unetpp.serve.limits import Limits
from unetpp.serve.problems import Refused

LONGEST_NAME = 120
_BY_PILLOW = ("PNG", "JPEG", "BMP", "GIF", "WebP", "JPEG 2000", "AVIF")


def clean_name(name: str) -> str:
    """Make a harmless file name: no folders, no signs of HTML or of shells, not hidden, not too long."""
    last = PurePosixPath(name.replace("\\", "/")).name
    plain = unicodedata.normalize("NFC", last)
    plain = re.sub(r"[^\w.\- ()+]", "_", plain).strip(" .") or "image"
    suffix = suffix_of(Path(plain))
    return plain if len(plain.encode()) <= LONGEST_NAME else f"{stem_of(Path(plain))[:40]}{suffix[:20]}"


def store_uploads(uploads: Sequence[UploadFile], folder: Path, limits: Limits) -> tuple[list[str], list[str]]:
    """Store the files of one case.

    Args:
        uploads: as they came.
        folder: for them; it is made.
        limits: of the server.

    Returns:
        Names of all files, and those of them that are images: others hold the voxels of a header beside them.

    Raises:
        Refused: no file, too many, or two of one name.
    """
    names = [clean_name(upload.filename or "") for upload in uploads]
    if not 0 < len(names) <= limits.files:
        got = f"{len(names)} files" if names else "no file"
        raise Refused(422, "files", got, f"1 to {limits.files}, the channels of one case", "Send each case by itself.")
    if len({name.lower() for name in names}) < len(names):
        raise Refused(422, "files", "two files of one name", "a name for each", "Rename one.")
    folder.mkdir(parents=True)
    for name, upload in zip(names, uploads, strict=True):
        with (folder / name).open("xb") as file:
            shutil.copyfileobj(upload.file, file, 2**20)
    return names, [name for name in names if not is_companion(folder / name)]


def require_size(paths: Sequence[Path], limits: Limits) -> int:
    """Refuse images that are too large, by their headers, before they are decoded; returns the voxels of the largest.

    Raises:
        Refused: more voxels than the limit.
        DataError: a file that cannot be read.
    """
    largest = 0
    for path in paths:
        shape = read_shape(path)
        largest = max(largest, prod(shape))
        if largest > limits.voxels:
            got = f"an image of {describe_shape(shape)}"
            raise Refused(413, path.name, got, f"at most {limits.voxels:,} in all", "Cut it into pieces.")
    return largest


def read_shape(path: Path) -> tuple[int, ...]:
    """Read the spatial shape of an image from its header; of the few formats without one, by opening it.

    Raises:
        DataError: it cannot be read.
    """
    with failures_of(str(path)):
        try:
            format = detect_format(path) if path.stat().st_size else None
        except FileRefused:
            format = None
        if format is not None and format.name in _BY_PILLOW:
            if (size := _read_size(path)) is not None:
                return size
        elif format is not None and format.grid is not None:
            return read_grid(path)[0]
        return open_image(path).shape[1:]


def _read_size(path: Path) -> tuple[int, int] | None:
    """Read rows and columns by Pillow, which decodes nothing here; None: it cannot."""
    Image.MAX_IMAGE_PIXELS = None  # the limit is that of the server; the readers bound memory by themselves
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Exception:  # the reader says what is wrong
        return None


def name_case(names: Sequence[str]) -> str:
    """Name a case after its first image."""
    path = Path(names[0])
    stem = stem_of(path) if is_image(path) else path.stem
    return stem or "image"
