"""Models by name, their cards, and a memory budget: the one that was used least recently makes room."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from unetpp.errors import ModelFileError
from unetpp.serve.model_shelf import ModelShelf
from unetpp.serve.problems import Refused


def test_the_least_recently_used_makes_room(trained: Path, tmp_path: Path) -> None:
    paths = [tmp_path / name / "fold_0" / "model.safetensors" for name in ("a", "b", "c")]
    for path in paths:
        path.parent.mkdir(parents=True)
        shutil.copyfile(trained / "fold_0" / "model.safetensors", path)
    size = ModelShelf(paths[:1], 1).card(None).weight_bytes
    shelf = ModelShelf(paths, 2.5 * size, "cpu", "torch")
    assert [card.id for card in shelf.list()] == ["a", "b", "c"] and shelf.loaded_bytes == 0
    first = shelf.load("a")
    shelf.load("b")
    assert shelf.load("a") is first
    shelf.load("c")
    assert [card.id for card in shelf.list() if card.loaded] == ["a", "c"]
    assert shelf.loaded_bytes == 2 * size
    small = ModelShelf(paths, 1, "cpu", "torch")
    small.load("a")
    small.load("b")
    assert [card.id for card in small.list() if card.loaded] == ["b"]  # one is always loaded


def test_equal_names_get_numbers(trained: Path) -> None:
    shelf = ModelShelf([trained, trained], 1e9)
    assert [card.id for card in shelf.list()] == ["run", "run-2"]
    card = shelf.card("run")
    assert card.can_train_further and card.trained_on == "data" and [size.size for size in card.sizes] == ["1", "2"]
    assert card.sizes[0].dice is not None and shelf.data("run").dims == 2


def test_unknown_models_are_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="run"):
        ModelShelf([trained], 1e9).card("other")
    with pytest.raises(Refused, match="without a model"):
        ModelShelf([], 1e9).card(None)
    with pytest.raises(ModelFileError):
        ModelShelf([tmp_path / "none.safetensors"], 1e9)
