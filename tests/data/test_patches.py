from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetpp.data.patches import PatchLocation, PatchSampler, draw_generator
from unetpp.data.store import StoredCase


class ArrayCase(StoredCase):
    """A stored case without files: the image holds each voxel's own index."""

    def __init__(self, shape: tuple[int, ...], label: np.ndarray | None = None, id: str = "case") -> None:
        object.__setattr__(self, "id", id)
        object.__setattr__(self, "stem", Path())
        self.__dict__["_label"] = np.zeros(shape, np.uint8) if label is None else label
        self.__dict__["_image"] = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)
        rows = np.argwhere(self.__dict__["_label"] > 0)
        self.__dict__["_positions"] = {1: rows} if len(rows) else {}

    def image(self) -> np.ndarray:
        return self.__dict__["_image"]

    def label(self) -> np.ndarray:
        return self.__dict__["_label"]

    def positions(self) -> dict[int, np.ndarray]:
        return self.__dict__["_positions"]


@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    patch=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    step=st.integers(0, 1000),
)
@settings(deadline=None)
def test_patches_have_their_size_and_lie_inside_or_around(
    shape: tuple[int, int], patch: tuple[int, int], step: int
) -> None:
    label = np.zeros(shape, np.uint8)
    label[0, -1] = 1
    sampler = PatchSampler([ArrayCase(shape, label)], patch, 2, 0.5, seed=0)
    for index in range(2):
        location = sampler.draw(step, index)
        for start, size, length in zip(location.start, patch, shape, strict=True):
            assert min(0, length - size) <= start <= max(0, length - size)
        image, cut = sampler.read(location)
        assert image.shape == (1, *patch)
        assert cut.shape == patch
        y, x = (max(0, s) for s in location.start)
        assert image[0, y - location.start[0], x - location.start[1]] == y * shape[1] + x


def test_the_draw_depends_on_seed_step_and_index_alone() -> None:
    cases = [ArrayCase((30, 30)) for _ in range(7)]
    first, second = (PatchSampler(cases, (8, 8), 4, 0.3, seed=5) for _ in range(2))
    second.draw(99, 1)
    draws = [first.draw(step, index) for step in range(10) for index in range(4)]
    assert draws == [second.draw(step, index) for step in range(10) for index in range(4)]
    assert draws != [
        PatchSampler(cases, (8, 8), 4, 0.3, seed=6).draw(step, index) for step in range(10) for index in range(4)
    ]
    assert len({location.start for location in draws}) > 20


def test_cases_of_one_size_are_seen_equally_often_and_larger_ones_more() -> None:
    sampler = PatchSampler([ArrayCase((9, 9)) for _ in range(6)], (9, 9), 4, 0.0, seed=0)
    seen = [sampler.draw(step, index).case for step in range(9) for index in range(4)]
    assert [seen.count(case) for case in range(6)] == [6] * 6
    sampler = PatchSampler([ArrayCase((8, 8)), ArrayCase((40, 40)), ArrayCase((3, 3))], (8, 8), 1, 0.0, seed=0)
    seen = [sampler.draw(step, 0).case for step in range(70)]
    assert [seen.count(case) for case in range(3)] == [10, 50, 10]


def test_cases_are_drawn_as_often_as_their_weights_say() -> None:
    cases = [ArrayCase((9, 9), id=name) for name in "abcd"]
    sampler = PatchSampler(cases, (9, 9), 1, 0.0, seed=0, weights={"b": 2.5, "d": 0.25})
    length = 5  # 1 + 2.5 + 1 + 0.25 rounded
    passes = [[sampler.draw(number * length + place, 0).case for place in range(length)] for number in range(400)]
    found = np.array([[each.count(case) for case in range(4)] for each in passes])
    assert (found[:, 1] >= 2).all() and (found[:, 3] <= 1).all()
    assert found.mean(axis=0) == pytest.approx(np.array([1, 2.5, 1, 0.25]) * length / 4.75, abs=0.05)


def test_foreground_patches_contain_foreground() -> None:
    label = np.zeros((200, 200), np.uint8)
    label[150, 20] = 1
    sampler = PatchSampler([ArrayCase((200, 200), label)], (16, 16), 1, 1.0, seed=0)
    assert all(sampler.read(sampler.draw(step, 0))[1].any() for step in range(20))
    sampler = PatchSampler([ArrayCase((200, 200), label)], (16, 16), 1, 0.0, seed=0)
    assert not all(sampler.read(sampler.draw(step, 0))[1].any() for step in range(20))


def test_a_margin_is_read_from_the_case_and_reflected_beyond_it() -> None:
    case = ArrayCase((30, 40))
    sampler = PatchSampler([case], (8, 10), 1, 0.0, seed=0)
    image, label = sampler.cut(PatchLocation(0, (2, 20)), [5, 3])
    assert image.shape == (1, 18, 16) and label.shape == (18, 16)
    assert (image[:, 3:] == case.image()[:, :15, 17:33]).all()
    assert (image[:, :3] == case.image()[:, 3:0:-1, 17:33]).all()
    assert (image[:, 5:13, 3:13] == sampler.read(PatchLocation(0, (2, 20)))[0]).all()


def test_variations_do_not_follow_from_locations() -> None:
    location, variation = draw_generator(0, 3, 1), draw_generator(0, 3, 1, purpose=1)
    assert location.random() != variation.random()
    assert draw_generator(0, 3, 1).random() == draw_generator(0, 3, 1, purpose=0).random()


def test_the_order_of_a_pass_is_drawn_once_and_cases_are_not_read_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = 0
    shuffle = PatchSampler._shuffle_pass

    def count(sampler: PatchSampler, cycle: int) -> np.ndarray:
        nonlocal drawn
        drawn += 1
        return shuffle(sampler, cycle)

    monkeypatch.setattr(PatchSampler, "_shuffle_pass", count)
    sampler = PatchSampler([ArrayCase((8, 8)) for _ in range(50)], (8, 8), 5, 0.0, seed=0)
    first = [sampler.draw(step, index).case for step in range(20) for index in range(5)]
    assert sorted(first[:50]) == sorted(first[50:]) == list(range(50))
    assert drawn == 2
