"""New cases are mixed with those that a model knows, whatever became of its data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unetpp import replay
from unetpp.data.folds import Split, write_splits
from unetpp.errors import DataError
from unetpp.files import write_json
from unetpp.formats.readers import read_label
from unetpp.layouts.cases import find_cases
from unetpp.layouts.dataset_json import describe_data
from unetpp.model.header import read_header
from unetpp.plan import DataPlan
from unetpp.replay import mix
from unetpp.run_folder import RunFolder


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    """A copy of the file of a model in its run, whose splits a test may change."""
    file = tmp_path / "run" / "fold_0" / "model.safetensors"
    file.parent.mkdir(parents=True)
    for name in ("splits.json", "data.txt"):
        shutil.copy(trained / name, tmp_path / "run" / name)
    shutil.copy(trained / "fold_0" / "model.safetensors", file)
    return file


@pytest.fixture
def data(model: Path) -> DataPlan:
    return read_header(model).plan.data


def write_cases(folder: Path, *names: str) -> Path:
    """Write new images of 12 x 20 pixels with masks, as a user brings them."""
    generator = np.random.default_rng(len(str(folder)))
    for name in names:
        for kind, picture in {"images": generator.integers(0, 255, (12, 20)), "masks": np.eye(12, 20) * 255}.items():
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture.astype(np.uint8)).save(folder / kind / f"{name}.png")
    return folder


def read_split(folder: Path) -> dict[str, Any]:
    (split,) = json.loads((folder / "splits_final.json").read_text())
    return dict(split)


def known_split(model: Path) -> Split:
    return Split(
        **{name: tuple(ids) for name, ids in json.loads((model.parents[1] / "splits.json").read_text())[0].items()}
    )


def test_known_cases_keep_their_part(model: Path, data: DataPlan, tmp_path: Path) -> None:
    found = mix(write_cases(tmp_path / "new", "a", "b"), model, tmp_path / "mixture", data)
    split, known = read_split(found.folder), known_split(model)
    assert set(split["train"]) == {"a", "b", *known.train} and set(split["val"]) == set(known.validation)
    assert (found.new, found.replayed, found.validated) == (2, 8, 2)
    assert found.settings == {"train.case_weights": {"a": 1.333, "b": 1.333}}
    cases = {case.id: case for case in find_cases(found.folder).cases}
    written, before = read_label(cases["a"].labels[0]).array[0], data.label_values
    assert (written == np.asarray(before)[np.eye(12, 20, dtype=int)]).all()


def take_for_trained(model: Path, mixture: Path) -> None:
    """Let the model be one that was trained on a mixture."""
    run, split = RunFolder(model.parents[1]), read_split(mixture)
    run.note_data(mixture)
    write_splits(run.splits, [Split(tuple(split["train"]), tuple(split["val"]))])


@pytest.mark.parametrize("name", ["b", "a"])
def test_a_second_round_knows_what_the_first_one_knew(name: str, model: Path, data: DataPlan, tmp_path: Path) -> None:
    first = mix(write_cases(tmp_path / "new", "a"), model, tmp_path / "first", data)
    split = read_split(first.folder)
    take_for_trained(model, first.folder)
    second = mix(write_cases(tmp_path / "newer", name), model, tmp_path / "second", data)
    again = read_split(second.folder)
    known = ["a-2" if id == name else id for id in split["train"]]  # another image of the same name
    assert sorted(again["train"]) == sorted([name, *known]) and set(again["val"]) == set(split["val"])
    cases = {case.id: case for case in find_cases(second.folder).cases}
    assert len(cases) == 12 and len({case.images[0].read_bytes() for case in cases.values()}) == 12


def test_frames_of_a_patient_do_not_train_and_validate(model: Path, data: DataPlan, tmp_path: Path) -> None:
    split, run = known_split(model), RunFolder(model.parents[1])
    names = {id: f"p{number}_frame1" for number, id in enumerate((*split.train, *split.validation))}
    for id, name in names.items():
        for kind in ("images", "masks"):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(run.recall_data()) / kind / f"{id}.png", tmp_path / "data" / kind / f"{name}.png")
    run.note_data(tmp_path / "data")
    write_splits(run.splits, [Split(*(tuple(names[id] for id in ids) for ids in (split.train, split.validation)))])
    found = mix(write_cases(tmp_path / "new", "p8_frame2"), model, tmp_path / "mixture", data)
    assert (found.replayed, found.validated) == (8, 1) and read_split(found.folder)["val"] == ["p9_frame1"]


def test_new_cases_replace_copies_of_known_ones(model: Path, data: DataPlan, tmp_path: Path) -> None:
    split, run = known_split(model), RunFolder(model.parents[1])
    new = write_cases(tmp_path / "new", "x", "y", "z")
    for name, id in {"x": split.train[0], "y": split.validation[0]}.items():
        shutil.copy(Path(run.recall_data()) / "images" / f"{id}.png", new / "images" / f"{name}.png")
        shutil.copy(Path(run.recall_data()) / "masks" / f"{id}.png", new / "masks" / f"{name}.png")
    found = mix(new, model, tmp_path / "mixture", data)
    assert (found.new, found.replayed, found.validated) == (3, 7, 1)
    mixed = read_split(found.folder)
    assert not {split.train[0], split.validation[0]} & {*mixed["train"], *mixed["val"]}
    shutil.copy(Path(run.recall_data()) / "images" / f"{split.validation[1]}.png", new / "images" / "z.png")
    shutil.copy(Path(run.recall_data()) / "masks" / f"{split.validation[1]}.png", new / "masks" / "z.png")
    with pytest.raises(DataError, match="all 2 validation cases of the model, or their patients, among the new ones"):
        mix(new, model, tmp_path / "other", data)


def test_data_that_moved_are_found_where_they_are_named(model: Path, data: DataPlan, tmp_path: Path) -> None:
    run = RunFolder(model.parents[1])
    moved = Path(run.recall_data()).resolve()
    run.note_data(tmp_path / "gone")
    new = write_cases(tmp_path / "new", "a", "b")
    alone = mix(new, model, tmp_path / "alone", data)
    assert (alone.replayed, alone.validated, alone.settings) == (0, 0, {}) and "are not found" in alone.describe()
    assert mix(new, model, tmp_path / "mixture", data, moved).replayed == 8
    with pytest.raises(DataError, match="1 new case, and none of those that the model has learned from"):
        mix(write_cases(tmp_path / "one", "a"), model, tmp_path / "other", data)


def test_labels_that_have_the_values_of_the_mixture_stay_where_they_are(
    model: Path, data: DataPlan, tmp_path: Path
) -> None:
    new = write_cases(tmp_path / "new", "a")
    entries = [{"image": "images/a.png", "label": "masks/a.png"}]
    write_json(new / "dataset.json", {"name": "new", **describe_data(data), "training": entries})
    found = mix(new, model, tmp_path / "mixture", data)
    (case,) = (case for case in find_cases(found.folder).cases if case.id == "a")
    assert case.labels[0].samefile(new / "masks" / "a.png")
    write_json(new / "dataset.json", {"name": "new", **describe_data(data), "training": []})
    with pytest.raises(DataError):
        mix(new, model, tmp_path / "other", data)


@pytest.mark.parametrize(("most", "taken"), [(10, 1), (2 * 32 * 40, 2), (1_000_000, 8)])
def test_large_cases_are_replayed_up_to_a_number_of_voxels(
    most: int, taken: int, model: Path, data: DataPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MOST_REPLAYED_VOXELS", most)
    assert mix(write_cases(tmp_path / "new", "a"), model, tmp_path / "mixture", data).replayed == taken
