"""Files that are recognized and not read: their message says what they are and how to convert them."""

from __future__ import annotations

from unetpp.formats.format import FileRefused

_BIOFORMATS = "Convert it to OME-TIFF, for example with Fiji or bfconvert."
_ARRAY = "Save its array as .npy or TIFF."
_UNPACK = "Unpack it."
_PICTURE = "Export it as PNG or TIFF."

JPEG_LS = (b"\xff\xd8\xff\xf7", b"\xff\xd8\xff\xe8\0 SPIFF")
"""Starts of JPEG-LS, which are those of JPEG, too."""

_STARTS = (
    (b"version https://git-lfs", "a pointer of Git LFS in place of the file", "Run: git lfs pull"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", _ARRAY),
    (b"MATLAB 5.0", "a MATLAB file", _ARRAY),
    (b"ZISRAWFILE", "a Zeiss CZI file", _BIOFORMATS),
    (b"\xda\xce\xbe\x0a", "a Nikon ND2 file", _BIOFORMATS),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an OLE file (Olympus OIB, Zeiss ZVI or an office document)", _BIOFORMATS),
    (b"8BPS", "a Photoshop file", _PICTURE),
    (b"%PDF", "a PDF document", _PICTURE),
    (b"%!PS", "a PostScript file", _PICTURE),
    (b"gimp xcf", "a GIMP file", _PICTURE),
    (b"P7\n", "a PAM file", _PICTURE),
    (b"\x80\x02", "a Python pickle, which is never loaded", _ARRAY),
    (b"\x80\x03", "a Python pickle, which is never loaded", _ARRAY),
    (b"\x80\x04\x95", "a Python pickle, which is never loaded", _ARRAY),
    (b"\x80\x05\x95", "a Python pickle, which is never loaded", _ARRAY),
    (b"PK\x03\x04", "a ZIP archive", _UNPACK),
    (b"BZh", "a file compressed by bzip2", _UNPACK),
    (b"\xfd7zXZ\0", "a file compressed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a file compressed by zstd", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\xff\x0a", "a JPEG XL image", _PICTURE),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image", _PICTURE),
    *((start, "a JPEG-LS image", _PICTURE) for start in JPEG_LS),
    (b"II\xbc\x01", "a JPEG XR image", _PICTURE),
    (b"\x76\x2f\x31\x01", "an OpenEXR image", _PICTURE),
    (b"SIMPLE  =", "a FITS file", _ARRAY),
    (b"CDF\x01", "a NetCDF or MINC file", "Convert it to NIfTI, for example with mnc2nii; or its array to .npy."),
)


def describe_foreign(head: bytes, expected: str) -> FileRefused | None:
    """Recognize a file that is not read.

    Args:
        head: the first `HEAD` bytes of the file.
        expected: the formats that are read, for the message.

    Returns:
        The error to raise; None: nothing that is known.
    """
    for start, name, action in _STARTS:
        if head.startswith(start):
            return FileRefused(name, expected, action)
    if head[128:132] == b"DICM":
        return FileRefused("a DICOM file", expected, "Convert its series to one volume, for example with dcm2niix.")
    if head[:4] == b"\x70\x00\x00\x00" and head[8:9] == b"\x2a":
        return FileRefused("a Leica LIF file", expected, _BIOFORMATS)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return FileRefused("an HTML page (a download that failed?)", expected, "Download the file again.")
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return FileRefused("an SVG drawing", expected, _PICTURE)
    return None
