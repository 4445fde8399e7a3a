from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unetpp.data.patches import PatchSampler
from unetpp.data.store import StoredCase
from unetpp.plan import AugmentPlan
from unetpp.train.augment import Augmentation


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


@pytest.mark.parametrize("patch", [(24, 24), (8, 12, 12)])
def test_augmentation_is_drawn_from_its_seed_alone_and_moves_image_and_label_together(patch: tuple[int, ...]) -> None:
    plan = AugmentPlan(
        affine_probability=1.0,
        noise_probability=0,
        blur_probability=0,
        contrast_probability=0,
        brightness_probability=0,
        gamma_probability=0,
    )
    label = np.zeros(patch, np.uint8)
    label[tuple(slice(size // 4, size // 2) for size in patch)] = 1
    image = label[None].astype(np.float32) * 10
    augment = Augmentation(plan, patch, None)
    first = augment(image, label, 3)
    augment(image, label, 4)
    again = augment(image, label, 3)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    moved_image, moved_label = first
    assert moved_image.shape == (1, *patch) and moved_label.shape == (1, *patch)
    agreement = ((moved_image > 5) == (moved_label == 1)).float().mean()
    assert agreement > 0.97
    assert any((augment(image, label, seed)[1] != moved_label).any() for seed in range(5, 10))


@pytest.mark.parametrize("patch", [(1, 24, 24), (4, 24, 24), (24, 1, 24)])
def test_slices_and_slabs_are_varied_within_their_plane(patch: tuple[int, ...]) -> None:
    off = {f"{name}_probability": 0.0 for name in ("noise", "contrast", "brightness", "gamma")}
    plan = AugmentPlan(mirror=False, quarter_turns=False, affine_probability=1, blur_probability=1, scale=0, **off)
    thin = int(np.argmin(patch))
    levels = np.arange(patch[thin]).reshape([-1 if axis == thin else 1 for axis in range(3)])
    label = np.broadcast_to(levels + 1, patch).astype(np.uint8)
    for seed in range(5):
        varied, same = Augmentation(plan, patch, None)(np.ones((1, *patch), np.float32), label, seed)
        assert (same[0].numpy() == label).all()  # no voxel leaves its slice
        if patch[thin] == 1:  # and a slice is not blurred with the nothing around it
            assert np.allclose(varied[:, :, 8:-8, 8:-8] if thin == 0 else varied[:, 8:-8, :, 8:-8], 1, atol=1e-3)


def test_a_single_slice_may_be_flipped_along_its_axis_of_one_voxel() -> None:
    augment = Augmentation(AugmentPlan(mirror=True, quarter_turns=False), (1, 8, 8), None)
    image, label = np.ones((1, 1, 8, 8), np.float32), np.ones((1, 8, 8), np.uint8)
    for seed in range(40):  # along that axis alone in an eighth of them
        varied, same = augment(image, label, seed)
        assert varied.shape == (1, 1, 8, 8) and (same == 1).all()


def test_intensities_vary_and_labels_do_not() -> None:
    plan = AugmentPlan(
        mirror=False,
        quarter_turns=False,
        affine_probability=0,
        noise_probability=1,
        blur_probability=1,
        contrast_probability=1,
        brightness_probability=1,
        gamma_probability=1,
    )
    rng = np.random.default_rng(0)
    image, label = rng.normal(size=(3, 16, 16)).astype(np.float32), rng.integers(0, 3, (16, 16)).astype(np.uint8)
    varied, kept = Augmentation(plan, (16, 16), None)(image, label, 1)
    assert (kept.numpy()[0] == label).all()
    assert np.isfinite(varied.numpy()).all()
    assert not np.allclose(varied.numpy(), image)


def test_inversion_turns_dark_into_bright() -> None:
    plan = AugmentPlan(
        mirror=False,
        quarter_turns=False,
        affine_probability=0,
        noise_probability=0,
        blur_probability=0,
        contrast_probability=0,
        brightness_probability=0,
        gamma_probability=0,
        invert_probability=1,
    )
    image = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 8, 8)
    varied, _ = Augmentation(plan, (8, 8), None)(image, np.zeros((8, 8), np.uint8), 0)
    assert np.allclose(varied.numpy(), -image)


@pytest.mark.parametrize(("shape", "turned"), [((6, 6), 8), ((6, 4), 4), ((3, 3, 3), 48), ((2, 3, 3), 16)])
def test_flips_and_turns_give_every_orientation_that_keeps_the_shape(shape: tuple[int, ...], turned: int) -> None:
    names = ("affine", "noise", "blur", "contrast", "brightness", "gamma")
    augment = Augmentation(AugmentPlan(**{f"{name}_probability": 0.0 for name in names}), shape, None)
    label = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    found = set()
    for seed in range(20 * turned):
        image, same = augment(label[None].astype(np.float32), label, seed)
        assert torch.equal(image.long(), same)
        assert image.shape == (1, *shape)
        found.add(tuple(same.flatten().tolist()))
    assert len(found) == turned


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
