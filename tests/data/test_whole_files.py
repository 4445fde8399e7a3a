"""Files whose parts are cases are opened once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from unetpp.data.case_files import open_case_image, read_case_image, read_case_label
from unetpp.data.whole_files import WholeFiles
from unetpp.errors import DataError, Problem
from unetpp.layouts.dataset import Case
from unetpp.plan import AS_FILES_SAY, ReadPlan

RNG = np.random.default_rng(0)


@pytest.fixture
def stack(tmp_path: Path) -> Case:
    for name in ("image", "label"):
        array = RNG.integers(0, 255, (5, 9, 7), dtype=np.uint8)
        tifffile.imwrite(tmp_path / f"{name}.tif", array, photometric="minisblack")
    return Case("a", (tmp_path / "image.tif",), (tmp_path / "label.tif",))


def test_parts_equal_the_slices_of_the_whole(stack: Case) -> None:
    image, label = read_case_image(stack, AS_FILES_SAY).array, read_case_label(stack, AS_FILES_SAY).array
    for plane in range(5):
        part = replace(stack, plane=plane)
        assert np.array_equal(read_case_image(part, AS_FILES_SAY).array, image[:, plane])
        assert np.array_equal(read_case_label(part, AS_FILES_SAY).array, label[:, plane])
        inner = replace(part, area=((2, 8), (1, 3)))
        assert np.array_equal(read_case_image(inner, AS_FILES_SAY).array, image[:, plane, 2:8, 1:3])
        assert np.array_equal(read_case_label(inner, AS_FILES_SAY).array, label[:, plane, 2:8, 1:3])
    block = replace(stack, area=((1, 4), (2, 8), (1, 3)))
    assert open_case_image(block, AS_FILES_SAY).shape == (1, 3, 6, 2)
    assert np.array_equal(read_case_label(block, AS_FILES_SAY).array, label[:, 1:4, 2:8, 1:3])


def test_files_are_read_once_for_all_their_parts(stack: Case) -> None:
    reads: list[Case] = []

    def read(case: Case, plan: ReadPlan) -> int:
        reads.append(case)
        return len(reads)

    files = WholeFiles(read)
    parts = [replace(stack, id=f"a_{plane}", plane=plane, group="a", neighbors=("b",)) for plane in range(20)]
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda part: files.get(part, AS_FILES_SAY), parts)) == {1}
    assert reads == [replace(stack, id="")]
    files.get(parts[0], ReadPlan(fill=0))  # read in another way
    stack.images[0].write_bytes(b"changed")
    assert files.get(parts[0], AS_FILES_SAY) == 3
    files.close()
    assert files.get(parts[0], AS_FILES_SAY) == 4


def test_a_file_that_cannot_be_read_fails_for_each_part_and_is_tried_once(stack: Case) -> None:
    tries: list[Case] = []

    def read(case: Case, plan: ReadPlan) -> int:
        tries.append(case)
        raise DataError(Problem("a", "noise", "an image", ""))

    files = WholeFiles(read)
    for plane in range(3):
        with pytest.raises(DataError, match="noise"):
            files.get(replace(stack, plane=plane), AS_FILES_SAY)
    assert len(tries) == 1


def test_a_label_of_another_size_is_refused(stack: Case) -> None:
    tifffile.imwrite(stack.labels[0], np.zeros((4, 9, 7), np.uint8), photometric="minisblack")
    with pytest.raises(DataError, match="4 x 9 x 7 voxels; expected 5 x 9 x 7 voxels"):
        read_case_label(replace(stack, plane=4), AS_FILES_SAY)
