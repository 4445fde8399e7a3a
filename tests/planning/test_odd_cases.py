"""Odd cases: found where one differs, and only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unetpp.data.demo import write_demo_data
from unetpp.data.inspect import Inspection, inspect_dataset
from unetpp.layouts.cases import find_cases
from unetpp.planning.odd_cases import Oddities, find_odd_cases, measure_volumes, name_unit


def inspect(folder: Path) -> Inspection:
    return inspect_dataset(find_cases(folder))


def change(path: Path, array: np.ndarray) -> None:
    Image.fromarray(array).save(path)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    return write_demo_data(tmp_path / "many", 2, cases=12, shape=(32, 40))


def test_alike_cases_are_not_odd_and_few_never(many: Path, bodies: Path) -> None:
    assert find_odd_cases(inspect(many)) == Oddities()
    for image in sorted((many / "images").iterdir())[4:]:
        image.unlink()
        (many / "masks" / image.name).unlink()
    first = min((many / "images").iterdir())
    change(first, np.full((320, 400), 255, np.uint8))
    change(many / "masks" / first.name, np.full((320, 400), 255, np.uint8))
    assert find_odd_cases(inspect(many)) == Oddities()


def test_size_intensity_and_a_missing_class_are_told(many: Path) -> None:
    images = sorted((many / "images").iterdir())
    large, empty, bright = images[:3]
    change(large, np.asarray(Image.open(large)).repeat(3, 0))
    change(many / "masks" / large.name, np.asarray(Image.open(many / "masks" / large.name)).repeat(3, 0))
    change(many / "masks" / empty.name, np.zeros((32, 40), np.uint8))
    change(bright, 255 - np.asarray(Image.open(bright)) // 8)
    odd = {case.id: " ".join(case.reasons) for case in find_odd_cases(inspect(many)).cases}
    assert "96 pixels along Y; the median is 32" in odd[large.stem]
    assert "no foreground, which 11 of 12 cases have" in odd[empty.stem]
    assert "mean intensity 2" in odd[bright.stem]
    assert set(odd) == {large.stem, empty.stem, bright.stem}


def test_what_many_cases_share_is_a_kind(tmp_path: Path) -> None:
    folder = write_demo_data(tmp_path / "stains", 2, cases=40, shape=(32, 40))
    images = sorted((folder / "images").iterdir())
    for number, image in enumerate(images[:6]):
        change(image, 255 - np.asarray(Image.open(image)) // (8 + number))
    found = find_odd_cases(inspect(folder))
    assert not found.cases
    (kind,) = found.kinds
    assert set(kind.ids) == {image.stem for image in images[:6]}
    assert kind.reason.startswith("mean intensity 2") and " to 2" in kind.reason


def test_volumes_are_in_ml_where_voxels_have_a_size(bodies: Path, cells: Path) -> None:
    found = inspect(bodies)
    volumes, fact = measure_volumes(found), found.facts[0]
    assert name_unit(found) == "ml" and fact.spacing_mm is not None
    assert volumes[0].sum() == pytest.approx(np.prod(fact.shape) * np.prod(fact.spacing_mm) / 1000)
    found = inspect(cells)
    assert name_unit(found) == "pixels" and measure_volumes(found)[0].sum() == 32 * 40
