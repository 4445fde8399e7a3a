from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.images import problem_of
from unetpp.formats.readers import read_image

FOREIGN = {
    "DICOM": bytes(128) + b"DICM" + bytes(99),
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
    "HTML": b"\n<!DOCTYPE html><html></html>",
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(50),
    "CZI": b"ZISRAWFILE" + bytes(50),
    "ND2": b"\xda\xce\xbe\x0a" + bytes(50),
    "LIF": b"\x70\0\0\0\x10\0\0\0\x2a" + bytes(50),
    "pickle": b"\x80\x04\x95" + bytes(50),
    "PDF": b"%PDF-1.4",
    "JPEG XL": b"\xff\x0a" + bytes(50),
    "JPEG-LS": b"\xff\xd8\xff\xf7" + bytes(50),
    "FITS": b"SIMPLE  =" + bytes(50),
    "bzip2": b"BZh9" + bytes(50),
    "NetCDF": b"CDF\x01" + bytes(50),
    "SVG": b'<?xml version="1.0"?><svg></svg>',
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".nii.gz", ".npy", "", ".dat"])
def test_files_that_are_not_read_are_named(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(FOREIGN[name])
    problem = problem_of(read_image, path)
    assert name in problem.got
    assert "truncated" not in problem.got and "estore" not in problem.action
