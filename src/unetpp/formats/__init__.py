"""File formats: one module for each, and the tuple that lists them.

To add a format:
1. Write `formats/NAME.py` with one `Format`: its name, its suffixes, and a function `read` that returns a `Volume`.
2. Add what else it can do: `write`, `sniff` (recognize the content), `open` (read blocks), `written_as`, `needs`,
   `takes_axes`, `companions`. What is whole but not read is a `FileRefused`; sizes in headers pass
   `limits.check_claim` first.
3. Import heavy packages within these functions, and let them raise: `readers` and `writers` add the name of the file.
4. Add the format to `FORMATS`: layouts, reading, writing and messages include it.
5. Write `tests/data/formats/test_NAME.py`: a file that was written is read back unchanged.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from unetpp.errors import DataError, Problem
from unetpp.files import digest_file
from unetpp.formats.bmp import BMP
from unetpp.formats.foreign import describe_foreign
from unetpp.formats.format import HEAD, FileRefused, Format
from unetpp.formats.gif import GIF
from unetpp.formats.heif import AVIF, HEIF
from unetpp.formats.jpeg import JPEG
from unetpp.formats.jpeg2000 import JPEG2000
from unetpp.formats.metaimage import MHA
from unetpp.formats.mgh import MGH
from unetpp.formats.nifti import NIFTI
from unetpp.formats.npy import NUMPY
from unetpp.formats.nrrd import NRRD
from unetpp.formats.png import PNG
from unetpp.formats.pnm import PNM
from unetpp.formats.tiff import TIFF
from unetpp.formats.webp import WEBP
from unetpp.formats.zarr_folder import ZARR

FORMATS = (PNG, JPEG, BMP, GIF, WEBP, JPEG2000, PNM, HEIF, AVIF, TIFF, NUMPY, NIFTI, MGH, NRRD, MHA, ZARR)

_COMPANIONS = (
    (".img", ".hdr"),
    (".img.gz", ".hdr"),
    (".img.gz", ".hdr.gz"),
    (".raw", ".mhd"),
    (".zraw", ".mhd"),
    (".raw", ".nhdr"),
    (".raw.gz", ".nhdr"),
)
"""Endings of files with voxels alone, and those of their headers."""


def format_names() -> str:
    """List the names of all formats for a message."""
    names = [format.name for format in FORMATS]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def formats_by_suffix() -> dict[str, Format]:
    """Map each suffix to its format."""
    return {suffix: format for format in FORMATS for suffix in format.suffixes}


def detect_format(path: Path) -> Format:
    """Detect the format of a file by its content, whatever its name; formats without `sniff` by the suffix alone.

    Raises:
        DataError: unknown suffix and content.
        FileRefused: content that is known but not read, or that fits no format.
    """
    if path.is_dir() and is_image(path):
        return formats_by_suffix()[suffix_of(path)]
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    for format in FORMATS:
        if format.sniff is not None and format.sniff(head):
            return format
    if (foreign := describe_foreign(head, format_names())) is not None:
        raise foreign
    suffix = suffix_of(path)
    named = formats_by_suffix().get(suffix)
    if named is None and is_companion(path):
        got, expected = "the voxels of a header that lies beside it", "the file with the header"
        raise DataError(Problem(str(path), got, expected, "Name the header."))
    if named is None:
        got = f"the unknown type {suffix or 'of a name without a suffix'}"
        raise DataError(Problem(str(path), got, format_names(), "Convert the file to one of these."))
    if named.sniff is None:
        return named
    got = "a file that is truncated or not an image (its content is that of no format)"
    raise FileRefused(got, f"a whole {suffix} image", "Restore it from the original, or remove it.")


def suffix_of(path: Path) -> str:
    """Return the suffix in lower case, `.nii.gz` in one piece; of an unknown format, the part from the last dot."""
    name = path.name.lower()
    for count in (2, 1):  # no suffix has more parts
        suffix = "." + ".".join(name.split(".")[-count:])
        if name.endswith(suffix) and name != suffix and _is_known(suffix):
            return suffix
    return path.suffix.lower()


def stem_of(path: Path) -> str:
    """Return the name without its suffix; images, labels and predictions are paired by it."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def is_image(path: Path) -> bool:
    """Tell whether a path has the suffix of a format and is not hidden (macOS leaves files such as `._a.png`).

    Of a format of folders it is one.
    """
    format = None if path.name.startswith(".") else formats_by_suffix().get(suffix_of(path))
    return format is not None and (not format.is_folder or path.is_dir())


def is_store(path: Path) -> bool:
    """Tell whether a folder stands for an image, as those of OME-Zarr do."""
    format = formats_by_suffix().get(suffix_of(path))
    return format is not None and format.is_folder and path.is_dir()


def _is_known(suffix: str) -> bool:
    return any(suffix in format.suffixes for format in FORMATS)


def is_companion(path: Path) -> bool:
    """Tell whether a file holds the voxels of a header beside it, which stands for both (.hdr and .img)."""
    return any(
        path.name.lower().endswith(ending) and path.with_name(path.name[: -len(ending)] + header).is_file()
        for ending, header in _COMPANIONS
    )


def list_image_files(path: Path) -> tuple[Path, ...]:
    """List all files that hold an image: itself and what a header names beside it; of a folder, those in it.

    Of a header that cannot be read, or whose voxels are missing, it is the header alone: reading it names the problem.
    """
    format = formats_by_suffix().get(suffix_of(path))
    try:
        companions = format.companions(path) if format else ()
    except Exception:
        companions = ()
    return companions if is_store(path) else (path, *companions)


def digest_image(path: Path) -> str:
    """Return the SHA-256 of an image: of its file, or of all files that hold it."""
    digests = [digest_file(file) for file in list_image_files(path)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def is_medical(path: Path) -> bool:
    """Tell whether a file has a medical format, which stores the position of its voxels in space."""
    suffix = suffix_of(path)
    return any(format.medical for format in FORMATS if suffix in format.suffixes)
