from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.data.images import FLAT, GRAY, RNG, problem_of
from unetpp import formats
from unetpp.errors import MissingExtraError
from unetpp.formats.format import Format, starts_with
from unetpp.formats.readers import open_image, read_image, read_label
from unetpp.formats.writers import map_suffix, output_suffix, write_segmentation
from unetpp.layouts.cases import find_cases
from unetpp.layouts.inputs import find_images
from unetpp.volume import Geometry, Volume


def _read_grid(path: Path, suffix: str) -> Volume:
    return Volume(np.loadtxt(path, dtype=np.int32, ndmin=2)[None], Geometry(suffix))


def _write_grid(array: np.ndarray, geometry: Geometry, path: Path) -> None:
    np.savetxt(path, array, fmt="%d", header="grid")


GRID = Format("grid", (".txt", ".grid.txt"), read=_read_grid, write=_write_grid, sniff=starts_with(b"# grid"))


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> Format:
    """A format of ten lines, listed with the others."""
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, GRID))
    return GRID


def test_a_new_format_is_one_object_in_the_tuple(grid: Format, tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in ("a.grid.txt", "b.txt"):
            geometry = Geometry(name[1:])
            assert output_suffix(geometry) == name[1:]
            assert map_suffix(geometry) == ".tif"
            write_segmentation(FLAT, geometry, tmp_path / folder / name)
    dataset = find_cases(tmp_path)
    assert [case.id for case in dataset.cases] == ["a", "b"]
    assert [case.id for case in find_images([tmp_path / "images"]).cases] == ["a", "b"]
    image, label = (paths[0] for paths in (dataset.cases[0].images, dataset.cases[0].labels))
    np.testing.assert_array_equal(open_image(image).read((slice(1, 4), slice(2, 9))), FLAT[None, 1:4, 2:9])
    np.testing.assert_array_equal(read_label(label).array[0], FLAT)
    assert read_label(label).geometry.suffix == ".grid.txt"


def test_failures_of_a_new_format_are_one_problem(grid: Format, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# grid\n1 2\n3\n")
    assert "truncated or not an image" in problem_of(read_image, tmp_path / "a.txt").got
    (tmp_path / "b.txt").write_text("hello")
    assert "its content is that of no format" in problem_of(read_image, tmp_path / "b.txt").got
    (tmp_path / "c.docx").write_text("hello")
    assert problem_of(read_image, tmp_path / "c.docx").expected.endswith("MHA, OME-Zarr or grid")


def test_a_new_format_is_recognized_by_its_content(grid: Format, tmp_path: Path) -> None:
    write_segmentation(FLAT, Geometry(".txt"), tmp_path / "a.txt")
    (tmp_path / "a.txt").rename(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label(tmp_path / "a.png").array[0], FLAT)


def test_a_format_names_the_extra_that_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path, suffix: str) -> Volume:
        raise ImportError("no module named slides")

    slides = Format("slide", (".slide",), read=read, needs=("slides", "microscopy"))
    monkeypatch.setattr(formats, "FORMATS", (slides,))
    (tmp_path / "a.slide").write_text("slide")
    with pytest.raises(MissingExtraError, match=r"Reading \.slide files needs the package slides.*\[microscopy\]"):
        read_image(tmp_path / "a.slide")


def test_a_format_that_is_only_read_refuses_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "FORMATS", (Format("grid", (".txt",), read=_read_grid),))
    with pytest.raises(NotImplementedError, match="written_as"):
        write_segmentation(FLAT, Geometry(".txt"), tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


def test_every_suffix_belongs_to_one_format_and_has_a_writer() -> None:
    suffixes = [suffix for format in formats.FORMATS for suffix in format.suffixes]
    assert len(suffixes) == len(set(suffixes))
    only_read = Format.__dataclass_fields__["write"].default
    for suffix in suffixes:
        written = formats.formats_by_suffix()[output_suffix(Geometry(suffix))]
        assert written.write is not only_read
        assert written.medical == formats.formats_by_suffix()[suffix].medical


def test_content_decides_between_formats_whose_suffixes_users_change(tmp_path: Path) -> None:
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", GRAY)
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    (tmp_path / "b.tif").rename(tmp_path / "b.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg").array[0], GRAY)
    np.testing.assert_array_equal(read_image(tmp_path / "b.png").array[0], GRAY)


def test_noise_is_no_format() -> None:
    for head in (b"", b"P", RNG.bytes(512), b"\0" * 512):
        assert not any(format.sniff and format.sniff(head) for format in formats.FORMATS)


@pytest.mark.parametrize(
    ("name", "stem", "suffix"),
    [
        ("a.nii.gz", "a", ".nii.gz"),
        ("a.b.OME.TIF", "a.b", ".ome.tif"),
        ("a.seg.nrrd", "a", ".seg.nrrd"),
        ("a.hdr", "a", ".hdr"),
        ("a.tar.gz", "a.tar", ".gz"),
        (".png", ".png", ""),
        ("a", "a", ""),
    ],
)
def test_names(name: str, stem: str, suffix: str) -> None:
    assert (formats.stem_of(Path(name)), formats.suffix_of(Path(name))) == (stem, suffix)


MHD = "ObjectType = Image\nNDims = 3\nDimSize = 3 2 4\nElementType = MET_SHORT\nElementDataFile = "
NHDR = "NRRD0004\ntype: short\ndimension: 3\nsizes: 3 2 4\nencoding: raw\nendian: little\ndata file: "


@pytest.mark.parametrize(
    ("name", "header", "beside"),
    [
        ("a.mhd", f"{MHD}a.raw\n", ["a.raw"]),
        ("a.mhd", f"{MHD}p%02d.raw 1 2 1\n", ["p01.raw", "p02.raw"]),
        ("a.nhdr", f"{NHDR}LIST\np01.raw\np02.raw\n", ["p01.raw", "p02.raw"]),
        ("a.hdr", "", ["a.img", "a.mat"]),
        ("a.png", "", []),
        ("a.unknown", "", []),
        ("a.mhd", "damaged", []),
        ("a.mhd", f"{MHD}none.raw\n", []),
        ("a.mha", f"{MHD}LOCAL\n", []),
        ("a.zarr", "a file", []),
    ],
)
def test_an_image_is_its_file_and_what_its_header_names(
    tmp_path: Path, name: str, header: str, beside: list[str]
) -> None:
    for other in ("a.raw", "p01.raw", "p02.raw", "a.img", "a.mat"):
        (tmp_path / other).touch()
    (tmp_path / name).write_text(header)
    assert formats.list_image_files(tmp_path / name) == tuple(tmp_path / each for each in (name, *beside))


def test_an_image_that_is_a_folder_is_the_files_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.zarr/0").mkdir(parents=True)
    for name in ("a.zarr/zarr.json", "a.zarr/0/0"):
        (tmp_path / name).touch()
    assert formats.list_image_files(tmp_path / "a.zarr") == (tmp_path / "a.zarr/0/0", tmp_path / "a.zarr/zarr.json")


def test_packages_of_formats_are_imported_when_they_are_needed() -> None:
    heavy = {"torch", "PIL", "tifffile", "imagecodecs", "nibabel", "SimpleITK"}
    code = f"import sys, unetpp.formats.readers, unetpp.formats.writers; print({heavy!r} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_voxels_beside_their_header_are_no_file_of_their_own(tmp_path: Path) -> None:
    for name in ("a.hdr", "a.img", "b.img", "c.mhd", "c.zraw", "d.raw"):
        (tmp_path / name).touch()
    assert [path.name for path in sorted(tmp_path.iterdir()) if formats.is_companion(path)] == ["a.img", "c.zraw"]
