from __future__ import annotations

import errno
import os
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image

from tests.plans import small_plan
from unetpp.data import store
from unetpp.data.foreground import LOCATIONS_PER_CLASS
from unetpp.data.patches import PatchSampler
from unetpp.data.store import StoredCase, find_stored_cases, store_cases
from unetpp.errors import DataError, WriteError
from unetpp.layouts.dataset import Case


def make_case(folder: Path, name: str, size: int = 80) -> Case:
    rng = np.random.default_rng(len(name))
    label = np.zeros((size, size), np.uint8)
    label[:70, :70] = 1
    label[3, 5] = 2
    image = rng.integers(0, 255, (size, size), dtype=np.uint8)
    paths = folder / f"{name}.png", folder / f"{name}_mask.png"
    for path, array in zip(paths, (image, label), strict=True):
        Image.fromarray(array).save(path)
    return Case(name, (paths[0],), (paths[1],))


def test_a_stored_case_is_normalized_and_has_its_foreground(tmp_path: Path) -> None:
    plan = small_plan(classes=3).data
    (stored,) = store_cases([make_case(tmp_path, "a")], plan, tmp_path / "cache")
    image, label = stored.image(), stored.label()
    assert (image.shape, image.dtype, label.shape, label.dtype) == ((1, 80, 80), np.float16, (80, 80), np.uint8)
    assert abs(float(image.astype(np.float64).mean())) < 1e-3
    assert image.astype(np.float64).std() == pytest.approx(1, abs=1e-3)
    assert sorted(stored.positions()) == [1, 2]
    assert len(stored.positions()[1]) == LOCATIONS_PER_CLASS
    assert stored.positions()[2].tolist() == [[3, 5]]
    for index, positions in stored.positions().items():
        assert (label[tuple(positions.T)] == index).all()


def test_cases_are_stored_once_and_again_when_the_plan_or_a_file_changes(tmp_path: Path) -> None:
    case, cache = make_case(tmp_path, "a"), tmp_path / "cache"
    plan = small_plan(classes=3).data
    (first,) = store_cases([case], plan, cache)
    written = Path(f"{first.stem}.image.npy").stat().st_mtime_ns
    (again,) = store_cases([case], plan, cache)
    assert again.stem == first.stem
    assert Path(f"{first.stem}.image.npy").stat().st_mtime_ns == written
    (other,) = store_cases([case], plan.model_copy(update={"classes": ("background", "one", "two")}), cache)
    assert other.stem != first.stem
    Image.fromarray(np.full((80, 80), 7, np.uint8)).save(case.images[0])
    (changed,) = store_cases([case], plan, cache)
    assert changed.stem != first.stem
    assert not np.array_equal(changed.image(), first.image())


def test_no_two_cases_share_an_entry(tmp_path: Path) -> None:
    """Ids of one beginning, files of one name, size and time."""
    plan, ids = small_plan(classes=3).data, [f"{'x' * 120}{number}" for number in range(3)]
    cases = []
    for number, id in enumerate(ids):
        (tmp_path / str(number)).mkdir()
        case = make_case(tmp_path / str(number), "i")
        for path in (*case.images, *case.labels):
            os.utime(path, (0, 0))
        cases.append(Case(id, case.images, case.labels))
    stored = store_cases(cases, plan, tmp_path / "cache")
    assert len({case.stem for case in stored}) == 3
    assert [case.stem for case in find_stored_cases(ids, tmp_path / "cache")] == [case.stem for case in stored]


def test_a_case_holds_no_file_open(tmp_path: Path) -> None:
    (stored,) = store_cases([make_case(tmp_path, "a")], small_plan(classes=3).data, tmp_path / "cache")
    before = psutil.Process().num_fds()
    held = [stored.positions() for _ in range(5)]
    assert psutil.Process().num_fds() == before
    assert len(held[0][1]) == LOCATIONS_PER_CLASS


def test_all_unreadable_cases_are_reported_at_once(tmp_path: Path) -> None:
    cases = [make_case(tmp_path, name) for name in ("a", "b", "c")]
    cases[0].images[0].write_bytes(b"")
    cases[2].images[0].write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        store_cases(cases, small_plan(classes=3).data, tmp_path / "cache")
    assert [Path(problem.where).name for problem in caught.value.problems] == ["a.png", "c.png"]


def test_names_with_unusual_characters_stay_inside_the_store(tmp_path: Path) -> None:
    case = make_case(tmp_path, "a")
    (stored,) = store_cases(
        [Case("../b/c d", case.images, case.labels)], small_plan(classes=3).data, tmp_path / "cache"
    )
    assert stored.stem.parent == tmp_path / "cache"


def test_a_label_without_voxel_size_lies_on_the_grid_of_its_image(tmp_path: Path) -> None:
    values = np.zeros((12, 10, 8), np.int16)
    values[6:, :, :] = 1
    nibabel.save(nibabel.Nifti1Image(values * 100, np.diag([2.5, 1.3, 1.3, 1])), tmp_path / "a.nii.gz")
    tifffile.imwrite(tmp_path / "a.tif", values.T.astype(np.uint8))
    plan = small_plan(dims=3).data.model_copy(update={"spacing_mm": (1.0, 1.0, 1.0)})
    (stored,) = store_cases([Case("a", (tmp_path / "a.nii.gz",), (tmp_path / "a.tif",))], plan, tmp_path / "cache")
    assert stored.image().shape[1:] == stored.label().shape == (10, 13, 30)
    bright = stored.image()[0] > 0
    assert (bright == (stored.label() == 1)).mean() > 0.95


def test_stored_cases_are_found_without_their_sources_if_complete_and_newest(tmp_path: Path) -> None:
    cache, plan = tmp_path / "cache", small_plan(classes=3).data
    cases = [make_case(tmp_path, name) for name in ("a", "a-b", "c")]
    store_cases(cases, plan, cache)
    newest = store_cases(cases[:1], plan.model_copy(update={"classes": ("background", "x", "y")}), cache)
    (path,) = cache.glob("c-*.image.npy")
    path.unlink()
    for file in tmp_path.glob("*.png"):
        file.unlink()
    found = find_stored_cases(["a", "c", "absent", "a-b"], cache)
    assert [case.id for case in found] == ["a", "a-b"]
    assert found[0].stem == newest[0].stem
    assert found[1].image().shape == (1, 80, 80)


def test_a_case_without_foreground_has_no_positions(tmp_path: Path) -> None:
    case = make_case(tmp_path, "a")
    Image.fromarray(np.zeros((80, 80), np.uint8)).save(case.labels[0])
    (stored,) = store_cases([case], small_plan(classes=3).data, tmp_path / "cache")
    assert stored.positions() == {}
    assert 0 not in stored.positions()


def test_a_cache_that_vanishes_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.label\.npy: got an array that cannot be read \(No such file"):
        StoredCase("a", tmp_path / "a").label()
    (tmp_path / "a.image.npy").write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(DataError, match="an array that cannot be read"):
        StoredCase("a", tmp_path / "a").image()


@pytest.mark.parametrize("name", ["image", "label", "foreground"])
def test_an_array_of_objects_is_a_problem_that_says_what_to_delete(tmp_path: Path, name: str) -> None:
    """Unpickling could run any program; such a file was not written by us."""
    case = StoredCase("a", tmp_path / "a")
    np.save(f"{case.stem}.{name}.npy", np.array([{}, None], dtype=object), allow_pickle=True)
    read = {"image": case.image, "label": case.label, "foreground": case.positions}[name]
    with pytest.raises(DataError, match=r"a\.\w+\.npy: got an array that cannot be read .*remove the cache"):
        read()


def test_a_large_case_is_stored_in_tiles_and_read_as_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    image, label = rng.integers(-200, 200, (12, 40, 30)).astype(np.int16), rng.integers(0, 3, (12, 40, 30), np.uint8)
    for name, array in (("image", image), ("label", label)):
        nibabel.save(nibabel.Nifti1Image(array.T, np.diag([1, -1, 2.5, 1])), tmp_path / f"{name}.nii.gz")
    case = Case("a", (tmp_path / "image.nii.gz",), (tmp_path / "label.nii.gz",))
    plan = small_plan(classes=3, dims=3).data.model_copy(update={"spacing_mm": (1.0, 1.2, 1.0), "orientation": "RAS"})
    (small,) = store_cases([case], plan, tmp_path / "small")
    monkeypatch.setattr(store, "SMALL", 0)
    (large,) = store_cases([case], plan, tmp_path / "large")
    assert Path(f"{large.stem}.image.tif").exists() and Path(f"{large.stem}.label.tif").exists()
    assert large.image().shape == small.image().shape == (1, 30, 33, 30)
    assert np.array_equal(np.asarray(large.image()), small.image())
    assert np.array_equal(np.asarray(large.label()), small.label())
    assert all(np.array_equal(large.positions()[index], small.positions()[index]) for index in (1, 2))
    assert [case.stem for case in find_stored_cases(["a"], tmp_path / "large")] == [large.stem]
    sampler = [PatchSampler([stored], (16, 50, 20), 1, 0.5, seed=0) for stored in (small, large)]
    for step in range(4):
        pairs = [each.read(each.draw(step, 0)) for each in sampler]
        assert all(np.array_equal(first, second) for first, second in zip(*pairs, strict=True))


def test_a_change_remakes_what_it_concerns_alone(tmp_path: Path) -> None:
    case, cache, plan = make_case(tmp_path, "a"), tmp_path / "cache", small_plan(classes=3).data
    (first,) = store_cases([case], plan, cache)

    def changed(**fields: object) -> StoredCase:
        (stored,) = store_cases([case], plan.model_copy(update=fields), cache)
        return stored

    assert changed(voxel_mm=(1.0, 1.0)).stem == first.stem
    renamed = changed(classes=("background", "one", "two"))
    assert renamed.stem != first.stem
    assert os.path.samefile(f"{renamed.stem}.image.npy", f"{first.stem}.image.npy")
    assert not os.path.samefile(f"{changed(fill=0.0).stem}.image.npy", f"{first.stem}.image.npy")
    Image.fromarray(np.zeros((80, 80), np.uint8)).save(case.labels[0])
    relabeled = changed()
    assert os.path.samefile(f"{relabeled.stem}.image.npy", f"{first.stem}.image.npy")
    assert not np.asarray(relabeled.label()).any()


def test_a_file_that_vanishes_is_a_problem_of_its_case(tmp_path: Path) -> None:
    cases = [make_case(tmp_path, name) for name in ("a", "b")]
    cases[0].labels[0].unlink()
    with pytest.raises(DataError, match=r"a\.png.*No such file"):
        store_cases(cases, small_plan(classes=3).data, tmp_path / "cache")
    assert len([*(tmp_path / "cache").glob("b-*.foreground.npy")]) == 1


def test_a_full_disk_keeps_what_is_prepared_and_the_rest_follows_when_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [make_case(tmp_path, name) for name in ("a", "b", "c")]
    plan, cache = small_plan(classes=3).data, tmp_path / "cache"
    store_cases(cases[:1], plan, cache)
    kept = {path: path.stat().st_mtime_ns for path in cache.iterdir()}

    def fill(*args: object, **settings: bool) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(store.np, "save", fill)
        with pytest.raises(WriteError, match=r"[bc]-\w+\.image\.npy: got No space left on device; .*Free some space"):
            store_cases(cases, plan, cache)
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == kept
    assert all(each.is_complete() for each in store_cases(cases, plan, cache))
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
