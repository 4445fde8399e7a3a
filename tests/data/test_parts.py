"""Planes of volumes and blocks of a single image as cases."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile

from tests.tiny import run_cli, write_png
from unetpp.data.case_files import read_case_label
from unetpp.data.folds import make_splits
from unetpp.data.inspect import inspect_dataset
from unetpp.data.parts import list_planes, measure_foreground, split_dataset
from unetpp.data.store import find_stored_cases, store_cases
from unetpp.layouts.cases import find_cases
from unetpp.layouts.dataset import Case, Dataset
from unetpp.plan import AS_FILES_SAY, DataPlan, Normalization, ReadPlan
from unetpp.volume import Geometry, Volume

RNG = np.random.default_rng(0)
PLANES = ReadPlan(dims=2)


def write_pair(root: Path, stem: str, shape: tuple[int, ...]) -> None:
    """Squares that lie everywhere, as TIFF."""
    label = np.zeros(shape, np.uint8)
    label[..., ::3, ::2] = 255
    image = RNG.integers(0, 100, shape, dtype=np.uint8) + label // 2
    for folder, array in (("images", image), ("masks", label)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(root / folder / f"{stem}.tif", array, photometric="minisblack")


def split(root: Path, reading: ReadPlan = AS_FILES_SAY) -> Dataset:
    return split_dataset(find_cases(root, tolerant=True), reading)


def test_a_data_set_that_needs_no_parts_is_unchanged(tmp_path: Path) -> None:
    for stem in "ab":
        write_pair(tmp_path, stem, (6, 20, 20))
    dataset = find_cases(tmp_path)
    assert split_dataset(dataset, AS_FILES_SAY) is dataset


def test_planes_of_a_volume_stay_together(tmp_path: Path) -> None:
    for stem, planes in (("a", 3), ("b", 2)):
        write_pair(tmp_path, stem, (planes, 20, 24))
    dataset = split(tmp_path, PLANES)
    assert [(case.id, case.plane, case.group) for case in dataset.cases] == [
        ("a_z000", 0, "a"),
        ("a_z001", 1, "a"),
        ("a_z002", 2, "a"),
        ("b_z000", 0, "b"),
        ("b_z001", 1, "b"),
    ]
    assert {split.validation for split in make_splits(dataset.cases)} == {
        ("a_z000", "a_z001", "a_z002"),
        ("b_z000", "b_z001"),
    }
    found = inspect_dataset(dataset, PLANES)
    assert not found.problems
    assert {fact.shape for fact in found.facts} == {(20, 24)}


def test_images_and_slices_stored_as_volumes_keep_their_names(tmp_path: Path) -> None:
    write_pair(tmp_path, "flat", (20, 24))
    image = tmp_path / "slice.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 8, 1), np.uint8), np.eye(4)), image)
    assert list_planes(Case("flat", (tmp_path / "images/flat.tif",)), PLANES) == (
        Case("flat", (tmp_path / "images/flat.tif",)),
    )
    assert [(case.id, case.plane) for case in list_planes(Case("slice", (image,)), PLANES)] == [("slice", 0)]


@pytest.mark.parametrize("planes", [4, 8, 16, 60])
def test_planes_next_to_those_that_validate_do_not_train(tmp_path: Path, planes: int) -> None:
    write_pair(tmp_path, "volume", (planes, 12, 12))
    dataset = split(tmp_path, PLANES)
    (note,) = dataset.notes
    gap = max(1, planes // 20)
    assert f"one stack: its {planes} planes are split" in note
    assert f"leaves out {gap} plane" in note
    plane_of = {case.id: case.plane or 0 for case in dataset.cases}
    splits = make_splits(dataset.cases)
    assert sorted(name for split in splits for name in split.validation) == sorted(plane_of)
    for found in splits:
        validating = sorted(plane_of[name] for name in found.validation)
        assert validating == list(range(validating[0], validating[-1] + 1))
        assert found.train
        training = {plane_of[name] for name in found.train}
        near = {plane for plane in range(planes) if min(abs(plane - other) for other in validating) <= gap}
        assert training == set(range(planes)) - near


def test_one_large_image_is_split_by_area(tmp_path: Path) -> None:
    write_pair(tmp_path, "scan", (400, 600))
    dataset = split(tmp_path)
    assert [(case.id, case.area) for case in dataset.cases] == [
        ("scan_part1", ((0, 400), (0, 184))),
        ("scan_part2", ((0, 400), (216, 384))),
        ("scan_part3", ((0, 400), (416, 600))),
    ]
    assert dataset.notes == (
        "one image: split along its columns into 3 blocks with gaps of 32 pixels; "
        "scores are those of neighboring tissue",
    )
    assert len(make_splits(dataset.cases)) == 3
    assert not inspect_dataset(dataset).problems


def test_one_volume_is_split_by_area_and_its_planes_are_named(tmp_path: Path) -> None:
    write_pair(tmp_path, "volume", (6, 30, 48))
    dataset = split(tmp_path)
    assert [case.area for case in dataset.cases] == [((0, 6), (0, 30), (0, 20)), ((0, 6), (0, 30), (28, 48))]
    assert "`data.dims=2` takes its planes as images instead" in dataset.notes[0]
    assert not any("data.dims" in note for note in split(tmp_path, ReadPlan(dims=3)).notes)


def test_few_large_planes_are_split_by_area(tmp_path: Path) -> None:
    write_pair(tmp_path, "volume", (2, 200, 40))
    cases = split(tmp_path, PLANES).cases
    assert [(case.id, case.plane, case.area) for case in cases[:2]] == [
        ("volume_z000_part1", 0, ((0, 84), (0, 40))),
        ("volume_z000_part2", 0, ((116, 200), (0, 40))),
    ]
    for found in make_splits(cases):
        assert len({name[-5:] for name in found.validation}) == 1
        assert len({name[-5:] for name in found.train}) == 1


def test_images_of_one_group_are_split_alike(tmp_path: Path) -> None:
    for stem in "ab":
        write_pair(tmp_path, stem, (200, 40))
    (tmp_path / "list.csv").write_text(
        "image,label,group\nimages/a.tif,masks/a.tif,p\nimages/b.tif,masks/b.tif,p\n", encoding="utf-8"
    )
    dataset = split(tmp_path / "list.csv")
    assert {split.validation for split in make_splits(dataset.cases)} == {
        ("a_part1", "b_part1"),
        ("a_part2", "b_part2"),
    }
    assert dataset.notes[0].startswith("2 images of one group: split along its rows")


def test_a_declared_split_and_test_cases_are_kept(tmp_path: Path) -> None:
    for stem in "ab":
        write_pair(tmp_path, stem, (200, 40))
    for second, parts in (("validation", 0), ("test", 2)):
        table = tmp_path / f"{second}.csv"
        rows = f"image,label,split\nimages/a.tif,masks/a.tif,train\nimages/b.tif,masks/b.tif,{second}\n"
        table.write_text(rows, encoding="utf-8")
        assert sum(case.area is not None for case in split(table).cases) == parts


@pytest.mark.parametrize(
    ("shape", "hint"),
    [((60, 70), "at least 160 pixels along an axis is split by area."), ((3, 30, 20), "images: `data.dims=2`.")],
)
def test_what_is_too_small_to_be_split_is_told_what_would_help(
    tmp_path: Path, shape: tuple[int, ...], hint: str
) -> None:
    write_pair(tmp_path, "a", shape)
    (problem,) = inspect_dataset(split(tmp_path)).problems
    assert problem.got == "1 independent case or group"
    assert problem.action.endswith(hint)


def test_images_are_no_volumes(tmp_path: Path) -> None:
    for stem in "ab":
        write_pair(tmp_path, stem, (20, 20))
    (problem,) = inspect_dataset(split(tmp_path, ReadPlan(dims=3)), ReadPlan(dims=3)).problems
    assert (problem.where, problem.expected) == ("a, b", "volumes, by `data.dims=3`")


def test_blocks_without_foreground_are_named(tmp_path: Path) -> None:
    label = np.zeros((300, 300), np.uint8)
    label[:3, :3] = 255
    write_png(tmp_path / "images/a.png", RNG.integers(0, 255, (300, 300), dtype=np.uint8))
    write_png(tmp_path / "masks/a.png", label)
    assert split(tmp_path).notes[0].endswith("; not every block has foreground")


def test_files_that_cannot_be_read_are_reported_once(tmp_path: Path) -> None:
    for stem in "ab":
        write_pair(tmp_path, stem, (5, 20, 20))
    (tmp_path / "images/a.tif").write_bytes(b"II*\0 no image")
    (tmp_path / "masks/b.tif").write_bytes(b"II*\0 no label")
    problems = inspect_dataset(split(tmp_path, PLANES), PLANES).problems
    assert len([problem for problem in problems if "a.tif" in problem.where]) == 1
    assert len([problem for problem in problems if "b.tif" in problem.where]) == 1


def test_a_name_that_a_plane_would_take_is_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", (5, 20, 20))
    write_pair(tmp_path, "a_z001", (20, 20))
    problems = split(tmp_path, PLANES).problems
    assert [(problem.where, problem.got) for problem in problems] == [("a_z001", "two cases of this name")]


def test_voxels_of_all_planes_count_for_their_file(tmp_path: Path) -> None:
    for stem in "ab":
        write_pair(tmp_path, stem, (4, 20, 20))
        label = np.zeros((4, 20, 20), np.uint8)
        label[1, :5], label[2, :5] = 1, 2  # no plane has all classes
        tifffile.imwrite(tmp_path / f"masks/{stem}.tif", label, photometric="minisblack")
    found = inspect_dataset(split(tmp_path, PLANES), PLANES)
    assert (found.problems, found.label_values, found.notes) == ([], (0, 1, 2), [])


def test_foreground_is_what_differs_from_the_most_frequent_value() -> None:
    label = np.full((1, 4, 5), 255, np.uint8)
    label[0, 1, 2] = 0
    label[0, 1, 3] = 7
    assert [profile.tolist() for profile in measure_foreground(Volume(label, Geometry()))] == [
        [0, 2, 0, 0],
        [0, 0, 1, 1, 0],
    ]


def test_planes_are_stored_apart_even_with_long_names(tmp_path: Path) -> None:
    name = "n" * 120
    write_pair(tmp_path, name, (4, 20, 20))
    cases = split(tmp_path, PLANES).cases
    plan = DataPlan(
        dims=2,
        channels=("image",),
        classes=("background", "x"),
        label_values=(0, 255),
        normalization=(Normalization(),),
    )
    stored = store_cases(cases, plan, tmp_path / "cache")
    assert len({case.stem for case in stored}) == 4
    assert find_stored_cases([case.id for case in cases], tmp_path / "cache") == stored
    for case, found in zip(cases, stored, strict=True):
        assert np.array_equal(found.label(), read_case_label(case, plan).array[0] > 0)


def test_the_stack_of_sections(cases: Path) -> None:
    folder = cases / "2d/stack-of-sections"
    whole, planes = run_cli("check", folder), run_cli("check", folder, "--set", "data.dims=2")
    assert (whole.code, planes.code) == (0, 0)
    assert "data.dims=2" in whole.stdout
    assert "8 cases, 2D" in planes.stdout
