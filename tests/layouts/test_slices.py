"""Folders of slices."""

from __future__ import annotations

from pathlib import Path

from tests.layouts.test_cases import touch
from unetpp.layouts.dataset import Case
from unetpp.layouts.slices import find_slices, is_series, note_slices


def test_folders_of_slices_are_named(tmp_path: Path) -> None:
    names = [f"slice_{number:03}.tif" for number in range(4, 11)]
    touch(
        tmp_path,
        *(
            f"{folder}/{patient}/{name}"
            for folder in ("images", "labels")
            for patient in ("p0", "p1")
            for name in names
        ),
    )
    (problem,) = find_slices(tmp_path)
    assert problem.got.startswith("folders of numbered slices (images/p0, images/p1, labels/p0 and 1 more)")
    assert "tifffile.imwrite" in problem.action
    cases = [
        Case(f"{patient}_{name}", (tmp_path / "images" / patient / name,), group=patient)
        for patient in ("p0", "p1")
        for name in names
    ]
    assert "p0/slice_004.tif to slice_010.tif" in note_slices(cases)[0]
    assert not note_slices([Case(case.id, case.images) for case in cases])


def test_images_of_a_set_are_no_slices(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{folder}/{number}.png" for folder in ("images", "masks") for number in range(9)))
    assert is_series(sorted((tmp_path / "images").iterdir()))
    assert not is_series([Path(f"{number}.nii") for number in range(9)])
    assert not is_series([Path(f"a{number}.png") for number in (1, 2, 3, 5, 8)])
    assert not find_slices(tmp_path)
