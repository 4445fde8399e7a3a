"""What `check` says of folders whose images are not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.layouts.test_cases import problems_of, touch
from unetpp.layouts.cases import find_cases
from unetpp.layouts.contents import describe_others, list_content


def test_content_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.tif", "p/c.png", "p/x.czi", "readme", "Thumbs.db", "p.n5/0")
    content = list_content(tmp_path)
    assert {folder.name: [path.name for path in files] for folder, files in content.images.items()} == {
        tmp_path.name: ["a.tif", "b.png"],
        "p": ["c.png"],
    }
    assert [Path(problem.where).name for problem in content.unread] == ["p.n5", "x.czi"]
    assert describe_others(content.others) == ["1 file that is no image was left out: without a suffix (1)"]
    assert describe_others([]) == []


def test_a_pair_of_header_and_voxels_is_one_image(tmp_path: Path) -> None:
    touch(tmp_path, "a.hdr", "a.img")
    content = list_content(tmp_path)
    assert len(content.unread) + sum(map(len, content.images.values())) == 1


@pytest.mark.parametrize("folder", [".", "images"])
def test_images_that_are_not_read_are_named_before_what_they_cause(tmp_path: Path, folder: str) -> None:
    touch(tmp_path, f"{folder}/a.czi", f"{folder}/b.czi", "masks/a.png", "masks/b.png")
    problems = problems_of(tmp_path)
    assert [problem.got for problem in problems[:2]] == ["an image of the type .czi, which is not read"] * 2


def test_a_dicom_folder(tmp_path: Path) -> None:
    (tmp_path / "scan").mkdir()
    for number in range(2):
        (tmp_path / "scan" / f"{number}.dcm").write_bytes(b"\0" * 128 + b"DICM")
    for path in (tmp_path, tmp_path / "scan"):
        (problem,) = problems_of(path)
        assert (problem.where, problem.got) == (str(tmp_path / "scan"), "a DICOM series (2 files)")


def test_a_folder_that_goes_round(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png")
    (tmp_path / "images/again").symlink_to(tmp_path)
    assert len(list_content(tmp_path).images) == 2
    assert find_cases(tmp_path).cases


def test_a_link_to_itself_as_data(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (problem,) = problems_of(tmp_path / "loop")
    assert problem.where == str(tmp_path / "loop")


@pytest.mark.parametrize("name", [".zattrs", "zarr.json"])
def test_a_zarr_store_is_told_by_its_content(tmp_path: Path, name: str) -> None:
    touch(tmp_path, f"store/{name}", "store/0/image.png", "a.png")
    content = list_content(tmp_path)
    assert [problem.where for problem in content.unread] == [str(tmp_path / "store")]
    assert "Zarr" in content.unread[0].got and list(content.images) == [tmp_path]
