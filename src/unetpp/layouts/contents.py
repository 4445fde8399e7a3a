"""Content of folders: images, images in formats that are not read, and other files. Links that go round end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from os.path import realpath
from pathlib import Path

from unetpp.errors import Problem
from unetpp.formats import FORMATS, format_names, is_companion, is_image, is_store, suffix_of
from unetpp.formats.format import HEAD, Format
from unetpp.layouts.folders import list_entries, list_folders

_DCM2NIIX = "Convert it to NIfTI, for example with: dcm2niix -z y -o NEW_FOLDER FOLDER"
_CONVERT = {
    _DCM2NIIX: ".dcm .dicom .ima",
    "Save it as OME-TIFF, for example with Fiji (Bio-Formats).": (
        ".czi .lif .nd2 .oib .oif .oir .vsi .ims .lsm .stk .zvi .dv .r3d .ics .ids .sld .mvd2 .xdce .flex .nd .spe .ser"
    ),
    "Convert it to TIFF, for example with QuPath or vips.": ".svs .ndpi .mrxs .scn .bif .qptiff .tmap .isyntax",
    "Convert it to NIfTI, for example with mri_convert or nibabel.": (
        ".mgz .mgh .mnc .hdr .img .head .brik .par .rec .gipl .mif .vtk .vti"
    ),
    "Save its arrays as TIFF, NIfTI or PNG.": (
        ".npy .npz .h5 .hdf5 .hdf .zarr .n5 .mat .fits .fit .fts .mrc .dm3 .dm4"
    ),
    "Convert it to PNG or TIFF.": (
        ".gif .webp .heic .heif .avif .jxl .jp2 .j2k .j2c .jpx .jpf .jfif .jpe .jxr .ppm .pgm .pbm .pnm .pam .tga .exr "
        ".psd .xcf .cr2 .cr3 .nef .arw .dng .orf .rw2 .pcx .dds .sgi"
    ),
    "Save its frames as images.": ".avi .mp4 .mov .mkv .webm .mpg .mpeg .wmv .m4v",
}
"""What to do with images that are not read -> their suffixes. Those that a format reads are images nevertheless."""
_ACTIONS = {suffix: action for action, suffixes in _CONVERT.items() for suffix in suffixes.split()}
_SILENT_SUFFIXES = (".raw", ".zraw", ".db", ".ini")
"""Voxels of .mhd and .nhdr files, system files of Windows."""
_ZARR = (".zgroup", ".zattrs", ".zarray", "zarr.json")
"""Files that make a folder a Zarr store, whatever its name."""


@dataclass
class Content:
    """What lies below a folder, in the order of the names."""

    images: dict[Path, list[Path]] = field(default_factory=dict)
    """Folder -> its images; of the two files of an .hdr/.img pair the header."""
    unread: list[Problem] = field(default_factory=list)
    """Images in formats that are not read, folders that cannot be listed, and what is no file."""
    others: list[Path] = field(default_factory=list)
    """Files that are no images."""


def list_content(root: Path, exclude: Path | None = None) -> Content:
    """List what lies below a folder, without opening images.

    Args:
        root: the folder.
        exclude: a folder below it that is left out, such as that of the results.

    Returns:
        The content; folders in it that cannot be listed are in `unread`.

    Raises:
        OSError: the folder itself cannot be listed.
    """
    content = Content()
    for folder in _walk(root, exclude, content):
        entries = [path for path in list_entries(folder) if is_store(path) or not path.is_dir()]
        files = [path for path in entries if not is_silent(path)]
        _sort_files(folder, files, content)
    return content


def describe_others(others: Iterable[Path]) -> list[str]:
    """Describe files that are no images in one note: "3 files that are no images were left out: .txt (2), .pdf (1)"."""
    counts = Counter(path.suffix.lower() or "without a suffix" for path in others)
    if not counts:
        return []
    kinds = ", ".join(f"{suffix} ({count:,})" for suffix, count in counts.most_common(6))
    total = sum(counts.values())
    what = "1 file that is no image was" if total == 1 else f"{total:,} files that are no images were"
    return [f"{what} left out: {kinds}" + (", ..." if len(counts) > 6 else "")]


def _walk(root: Path, exclude: Path | None, content: Content) -> Iterator[Path]:
    """Yield folders in depth, each real folder once; those that cannot be listed become problems."""
    # realpath, because Path.resolve raises at links that go round
    seen = {realpath(exclude)} - {realpath(root)} if exclude is not None else set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        real = realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            folders = list_folders(folder)
        except OSError as error:
            if folder == root:
                raise
            got = f"a folder that cannot be read ({error.strerror or error})"
            content.unread.append(Problem(str(folder), got, "a readable folder", "Check its permissions."))
            continue
        if any((folder / name).is_file() for name in _ZARR):
            got, action = (
                "a Zarr store whose name does not end in .zarr",
                "Rename it, or name the group of an image in it.",
            )
            content.unread.append(Problem(str(folder), got, format_names(), action))
            continue
        content.unread += [_describe_unread(path) for path in folders if suffix_of(path) in _ACTIONS]  # such as .n5
        waiting += [path for path in reversed(folders) if suffix_of(path) not in _ACTIONS]
        yield folder


def is_silent(path: Path) -> bool:
    """Tell whether a file is passed over without a word: hidden, of the system, or voxels of a header beside it."""
    return path.name.startswith(".") or path.suffix.lower() in _SILENT_SUFFIXES or is_companion(path)


def _sort_files(folder: Path, files: list[Path], content: Content) -> None:
    dicom = []
    for path in files:
        if not (path.is_file() or is_store(path)):
            content.unread.append(describe_no_file(path))
        elif is_image(path):
            content.images.setdefault(folder, []).append(path)
        elif suffix_of(path) in _ACTIONS and _ACTIONS[suffix_of(path)] != _DCM2NIIX:
            content.unread.append(_describe_unread(path))
        elif suffix_of(path) in _ACTIONS or is_dicom(path):
            dicom.append(path)
        elif (format := _recognize(path)) is not None:
            got, expected = f"a {format.name} file that is not named like one", f"the suffix {format.suffixes[0]}"
            content.unread.append(Problem(str(path), got, expected, "Rename it."))
        else:
            content.others.append(path)
    if dicom:
        content.unread.append(describe_dicom(folder, len(dicom)))


def describe_no_file(path: Path) -> Problem:
    """Describe a path among images that is neither a file nor a folder: a pipe, a device, a link that leads nowhere."""
    if path.is_symlink():
        return Problem(str(path), "a link that leads nowhere", "a file", "Correct the link, or remove it.")
    return Problem(str(path), "no file (a pipe or a device?)", "a file", "Remove it.")


def describe_dicom(where: Path, count: int) -> Problem:
    """Describe DICOM files, which are not read."""
    got = "a DICOM file" if count == 1 else f"a DICOM series ({count:,} files)"
    return Problem(str(where), got, f"{format_names()}; DICOM is not read", f"{_DCM2NIIX}.")


def is_dicom(path: Path) -> bool:
    """Tell by content whether a file is DICOM: its names often have no suffix."""
    return _head(path, 132)[128:] == b"DICM"


def describe_unread_file(path: Path) -> Problem | None:
    """Describe a file or a store of an image format that is not read; None for any other."""
    if is_image(path):
        return None
    if suffix_of(path) in _ACTIONS and _ACTIONS[suffix_of(path)] != _DCM2NIIX:
        return _describe_unread(path)
    if suffix_of(path) in _ACTIONS or (path.is_file() and is_dicom(path)):
        return describe_dicom(path, 1)
    return None


def advise_conversion(path: Path) -> str | None:
    """Say what to do with an image of a format that is not read, by its name; None for any other file."""
    return None if is_image(path) else _ACTIONS.get(suffix_of(path))


def _describe_unread(path: Path) -> Problem:
    suffix = suffix_of(path)
    return Problem(str(path), f"an image of the type {suffix}, which is not read", format_names(), _ACTIONS[suffix])


def _recognize(path: Path) -> Format | None:
    """Tell the format of a file by its content."""
    head = _head(path, HEAD)
    return next((format for format in FORMATS if format.sniff is not None and format.sniff(head)), None)


def _head(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(size)
    except OSError:
        return b""
