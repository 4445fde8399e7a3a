from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.images import problem_of
from tests.formats.itk_files import DETACHED, VOXELS, assert_read_as_itk_does, count_refused, write_detached
from unetpp.formats.readers import read_image

HEAD = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 0.6 0.8 0 -0.8 0.6 0 0 0 1
Offset = 1 2 3
ElementSpacing = 1 2 3
DimSize = 2 3 4
ElementType = MET_SHORT
"""
LOCAL = "ElementDataFile = LOCAL\n"


@pytest.mark.parametrize(
    "header",
    [
        HEAD + LOCAL,
        (HEAD + LOCAL).replace("\n", "\r\n"),
        (HEAD + LOCAL).replace(" = ", "="),
        HEAD.replace("MSB = False", "MSB = True") + LOCAL,
        HEAD.replace("Spacing", "Size") + "DistanceUnits = um\nAnatomicalOrientation = LAS\n" + LOCAL,
        HEAD.replace("0.6 0.8 0 -0.8 0.6 0 0 0 1", "2 0 0 0 2 0 0 0 2") + LOCAL,
        HEAD.replace("2 3 4", "1 3 4").replace("MET_SHORT", "MET_LONG") + LOCAL,
        HEAD.replace("2 3 4", "1 3 4") + "ElementNumberOfChannels = 2\n" + LOCAL,
        "NDims = 2\nDimSize = 6 4\nElementType = MET_SHORT\nElementSpacing = 2 3\n" + LOCAL,
    ],
)
def test_headers_are_read_as_itk_does(tmp_path: Path, header: str) -> None:
    (tmp_path / "a.mha").write_bytes(header.encode() + VOXELS.tobytes())
    assert_read_as_itk_does(tmp_path / "a.mha")


@pytest.mark.parametrize("named", DETACHED)
def test_voxels_in_files_beside_the_header(tmp_path: Path, named: str) -> None:
    write_detached(tmp_path)
    (tmp_path / "a.mhd").write_text(f"{HEAD}ElementDataFile = {named}\n")
    assert_read_as_itk_does(tmp_path / "a.mhd")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (HEAD.replace("NDims = 3", f"NDims = {'9' * 20}") + LOCAL, "the header field NDims"),
        (HEAD.replace("NDims = 3", "NDims = 4") + LOCAL, "NDims = 4 with 3 sizes"),
        (HEAD.replace("2 3 4", "2 0 4") + LOCAL, "the header field DimSize"),
        (HEAD.replace("MET_SHORT", "MET_NONE") + LOCAL, "ElementType = MET_NONE"),
        (HEAD.replace("= 1 2 3\nDim", "= 1 2\nDim") + LOCAL, "ElementSpacing with 2 numbers"),
        (HEAD.replace("Offset = 1", "Offset = one") + LOCAL, "the header field Offset"),
        (HEAD.replace("Compressed", "Compressed\nx"), "no field"),
        (HEAD + "A = " + "\n" * 20, "no field"),
        (HEAD + "NDims = 3\n" + LOCAL, "twice"),
        (HEAD.replace("BinaryData = True", "BinaryData = 2") + LOCAL, "BinaryData = 2"),
        (HEAD + "ElementDataFile = LOCAL\x1a\n", "no such file as its voxels"),
    ],
)
def test_odd_headers_are_refused_in_words(tmp_path: Path, header: str, words: str) -> None:
    (tmp_path / "a.mha").write_bytes(header.encode() + VOXELS.tobytes())
    assert words in problem_of(read_image, tmp_path / "a.mha").got


def test_mutated_headers_are_read_or_refused(tmp_path: Path) -> None:
    assert 100 < count_refused(tmp_path / "a.mha", HEAD + LOCAL) < 300
