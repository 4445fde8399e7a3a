from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.images import problem_of
from tests.formats.itk_files import DETACHED, VOXELS, assert_read_as_itk_does, count_refused, write_detached
from unetpp.formats.readers import read_image

HEAD = "NRRD0005\ntype: short\ndimension: 3\nsizes: 2 3 4\nendian: little\nencoding: raw\n"
PLACE = "space directions: (0.6,0.8,0) (-1.6,1.2,0) (0,0,3)\nspace origin: (1,2,3)\n"
FOUR = HEAD.replace("dimension: 3", "dimension: 4")
SPACES = ["left-posterior-superior", "RAS", "LAS", "right-anterior-superior", "scanner-xyz", "3D-right-handed"]


@pytest.mark.parametrize("space", [*(f"space: {space}\n" for space in SPACES), "space dimension: 3\n"])
def test_every_space_is_read_as_itk_does(tmp_path: Path, space: str) -> None:
    (tmp_path / "a.nrrd").write_bytes(f"{HEAD}{space}{PLACE}\n".encode() + VOXELS.tobytes())
    assert_read_as_itk_does(tmp_path / "a.nrrd")


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (HEAD + "spacings: 1 nan 3\n\n", VOXELS.tobytes()),
        (HEAD + "byte skip: 3\n\n", b"abc" + VOXELS.tobytes()),
        (HEAD + "byte skip: -1\n\n", b"abc" + VOXELS.tobytes()),
        (HEAD + "line skip: 1\n\n", b"abc\n" + VOXELS.tobytes()),
        ((HEAD + "\n").replace("\n", "\r\n"), VOXELS.tobytes()),
        (HEAD.replace("little", "big") + "\n", VOXELS.tobytes()),
        (HEAD.replace("raw", "ascii") + "\n", " ".join(map(str, VOXELS)).encode()),
        (HEAD.replace("raw", "hex") + "\n", VOXELS.tobytes().hex().encode()),
        (HEAD.replace("2 3 4", "3 2 4") + "kinds: RGB-color domain domain\n\n", VOXELS.tobytes()),
        (HEAD.replace("2 3 4", "6 4").replace(": 3", ": 2") + "spacings: 2 3\n\n", VOXELS.tobytes()),
        (
            FOUR.replace("2 3 4", "1 2 3 4") + "space: LPS\nkinds: domain vector domain domain\n"
            "space directions: (1,0,0) none (0,2,0) (0,0,3)\n\n",
            VOXELS.tobytes(),
        ),
    ],
)
def test_encodings_and_axes_are_read_as_itk_does(tmp_path: Path, header: str, data: bytes) -> None:
    (tmp_path / "a.nrrd").write_bytes(header.encode() + data)
    assert_read_as_itk_does(tmp_path / "a.nrrd")


@pytest.mark.parametrize("named", DETACHED)
def test_voxels_in_files_beside_the_header(tmp_path: Path, named: str) -> None:
    write_detached(tmp_path)
    (tmp_path / "a.nhdr").write_text(f"{HEAD}data file: {named}\n")
    assert_read_as_itk_does(tmp_path / "a.nhdr")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (HEAD.replace("dimension: 3", f"dimension: {'x' * 3000}"), "the header field dimension: xxx"),
        (HEAD.replace("2 3 4", "2 3 99999999999999999999"), "the header field sizes"),
        (HEAD.replace("2 3 4", "2 -3 4"), "the header field sizes"),
        (HEAD.replace("2 3 4", "2 3"), "2 sizes that differ"),
        (HEAD.replace("short", "block"), "numbers of the type 'block'"),
        (HEAD.replace("raw", "bzip2"), "the encoding 'bzip2'"),
        (HEAD.replace("endian: little\n", ""), "without their byte order"),
        (HEAD + "sizes: 2 3 4\n", "twice"),
        (HEAD + "kinfs: domain domain domain\n", "that the format does not have"),
        (HEAD + "space: outer\n", "the space 'outer'"),
        (HEAD + "space directions: (1,0,0) (0,x,0) (0,0,1)\n", "the header field vectors"),
        (HEAD + "space directions: (0,0,0) (0,1,0) (0,0,1)\n", "a spacing of"),
        (HEAD + "spacings: 1 1e400 1\n", "a spacing of"),
        (HEAD + "Segment0_LabelValue:=one\n", "the header field Segment0_LabelValue"),
        ("NRRD0009\n", "no NRRD file"),
    ],
)
def test_odd_headers_are_refused_in_words(tmp_path: Path, header: str, words: str) -> None:
    (tmp_path / "a.nrrd").write_bytes(header.encode() + b"\n" + VOXELS.tobytes())
    assert words in problem_of(read_image, tmp_path / "a.nrrd").got


def test_mutated_headers_are_read_or_refused(tmp_path: Path) -> None:
    assert 100 < count_refused(tmp_path / "a.nrrd", f"{HEAD}space: LPS\n{PLACE}\n") <= 300
