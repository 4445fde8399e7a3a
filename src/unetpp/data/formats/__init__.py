"""File formats: one file for each, and the one tuple that lists them.

To add a format:
1. Write `formats/NAME.py` with one `Format`: its name and suffixes, and a function `read` that returns a `Volume`.
2. Add what it can do besides: `write`, `sniff` (told by content), `open` (images in blocks), `written_as`, `needs`.
3. Import heavy packages within these functions; let them raise what they like, `readers` and `writers` name the file.
4. Add the format to `FORMATS`: layouts, reading, writing and messages know it now.
5. Write `tests/data/formats/test_NAME.py`: what was written is read back as it was.
"""

from __future__ import annotations

from pathlib import Path

from unetpp.data.formats.bmp import BMP
from unetpp.data.formats.format import HEAD, Format
from unetpp.data.formats.itk import MHA, NRRD
from unetpp.data.formats.jpeg import JPEG
from unetpp.data.formats.nifti import NIFTI
from unetpp.data.formats.png import PNG
from unetpp.data.formats.tiff import TIFF
from unetpp.errors import DataError, Problem

FORMATS = (PNG, JPEG, BMP, TIFF, NIFTI, NRRD, MHA)


def format_names() -> str:
    """The names of all formats, as messages list them."""
    return _listed([format.name for format in FORMATS], "or")


def formats_by_suffix() -> dict[str, Format]:
    """The format that each suffix stands for."""
    return {suffix: format for format in FORMATS for suffix in format.suffixes}


def detect_format(path: Path) -> Format:
    """The format of a file: the one that its content has, among formats that can be told so, else the one of its name.

    Raises:
        DataError: a name with the suffix of no format.
        ValueError: a content that fits no format.
    """
    suffix = suffix_of(path)
    named = formats_by_suffix().get(suffix)
    if named is None:
        got = f"the unknown type {suffix or 'of a name without a suffix'}"
        raise DataError(Problem(str(path), got, format_names(), "Convert the file to one of these."))
    if named.sniff is None:
        return named
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    for format in FORMATS:
        if format.sniff is not None and format.sniff(head):
            return format
    told = [format.name for format in FORMATS if format.sniff is not None]
    raise ValueError(f"its content is none of {_listed(told, 'and')}")


def suffix_of(path: Path) -> str:
    """The format's suffix in lower case, `.nii.gz` in one piece; of an unknown format, what follows the last dot."""
    name = path.name.lower()
    return max(
        (suffix for suffix in formats_by_suffix() if name.endswith(suffix) and name != suffix),
        key=len,
        default=path.suffix.lower(),
    )


def stem_of(path: Path) -> str:
    """The name without the suffix of `suffix_of`: it pairs images with labels and predictions."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def is_image(path: Path) -> bool:
    """True for a name that this package reads; hidden files, such as the `._a.png` of macOS, are none."""
    return suffix_of(path) in formats_by_suffix() and not path.name.startswith(".")


def is_medical(path: Path) -> bool:
    """True for the formats that say where in a body their voxels lie."""
    format = formats_by_suffix().get(suffix_of(path))
    return format is not None and format.medical


def _listed(words: list[str], before_last: str) -> str:
    return f"{', '.join(words[:-1])} {before_last} {words[-1]}"
