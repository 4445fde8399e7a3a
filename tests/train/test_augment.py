from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.data.test_patches import ArrayCase
from unetpp.data.patches import PatchSampler
from unetpp.plan import AugmentPlan
from unetpp.train.augment import Augmentation
from unetpp.train.batches import BatchMaker

OFF = {name: 0.0 for name in AugmentPlan.model_fields if name.endswith("_probability")}


def make_plan(turned: bool = False, **changes: Any) -> AugmentPlan:
    """Make a plan in which nothing varies but what is given."""
    return AugmentPlan(**{**OFF, "mirror": turned, "quarter_turns": turned, **changes})


def make_maker(
    plan: AugmentPlan,
    patch: tuple[int, ...],
    label: np.ndarray,
    image: np.ndarray | None = None,
    spacing_mm: tuple[float, ...] | None = None,
) -> BatchMaker:
    """Make batches of one patch of a case with this label and image."""
    case = ArrayCase(label.shape, label)
    if image is not None:
        case.__dict__["_image"] = image
    return BatchMaker(PatchSampler([case], patch, 1, 0.0, seed=0), Augmentation(plan, patch, spacing_mm))


def read_only(make: BatchMaker, step: int) -> tuple[Tensor, Tensor]:
    images, labels = make(step)
    return images[0], labels[0, 0]


@pytest.mark.parametrize("patch", [(24, 24), (10, 12, 12)])
@pytest.mark.parametrize("kind", ["affine_probability", "elastic_probability"])
def test_a_variation_follows_from_its_step_alone_and_moves_image_and_label_together(
    patch: tuple[int, ...], kind: str
) -> None:
    label = np.zeros([2 * size for size in patch], np.uint8)
    label[tuple(slice(size // 2, size * 3 // 2) for size in patch)] = 1
    make = make_maker(make_plan(turned=True, **{kind: 1.0}), patch, label, label[None].astype(np.float32) * 10)
    first = read_only(make, 3)
    read_only(make, 4)
    assert all((a == b).all() for a, b in zip(first, read_only(make, 3), strict=True))
    image, moved = first
    assert image.shape == (1, *patch) and moved.shape == patch
    assert ((image[0] > 5) == (moved == 1)).float().mean() > 0.97
    assert any((read_only(make, step)[1] != moved).any() for step in range(5, 10))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_ramp_stays_a_ramp_up_to_the_corners(dims: int) -> None:
    patch, shape = (10, 14, 12)[:dims], (60, 60, 60)[:dims]
    places = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")).astype(np.float32)
    plan = make_plan(turned=True, affine_probability=1.0, rotate_degrees=180)
    make = make_maker(plan, patch, np.zeros(shape, np.uint8), places)
    design = np.stack([np.ones(patch), *np.meshgrid(*(np.arange(n) for n in patch), indexing="ij")]).reshape(
        dims + 1, -1
    )
    for step in range(30):
        start = np.array(make.sampler.draw(step, 0).start)
        if start.min() < 14 or (start + patch).max() > 46:
            continue  # its corners may leave the case
        image = read_only(make, step)[0].numpy().reshape(dims, -1)
        slopes, *_ = np.linalg.lstsq(design.T, image.T, rcond=None)
        assert np.abs(design.T @ slopes - image.T).max() < 1e-2
        stretch = np.linalg.svd(slopes[1:], compute_uv=False)
        assert stretch.min() >= 1 / 1.25 - 1e-3 and stretch.max() <= 1 / 0.75 + 1e-3  # of objects: 0.75 to 1.25


@pytest.mark.parametrize("patch", [(1, 24, 24), (4, 24, 24), (24, 1, 24)])
def test_slices_and_slabs_are_varied_within_their_plane(patch: tuple[int, ...]) -> None:
    plan = make_plan(affine_probability=1.0, blur_probability=1.0, scale=0)
    thin = int(np.argmin(patch))
    levels = np.arange(patch[thin]).reshape([-1 if axis == thin else 1 for axis in range(3)])
    label = np.broadcast_to(levels + 1, patch).astype(np.uint8)
    make = make_maker(plan, patch, label, np.ones((1, *patch), np.float32))
    for step in range(5):
        varied, same = read_only(make, step)
        assert (same.numpy() == label).all()  # no voxel leaves its slice
        assert np.allclose(varied, 1, atol=1e-3)  # and none is blurred with the nothing around it


@pytest.mark.parametrize("kind", ["affine", "elastic", "low_resolution"])
def test_nothing_moves_across_thick_slices(kind: str) -> None:
    patch = (8, 16, 16)
    levels = np.broadcast_to(np.arange(8)[:, None, None], (8, 30, 30))
    plan = make_plan(turned=True, mirror=False, **{f"{kind}_probability": 1.0})
    thick, thin = (
        make_maker(plan, patch, levels.astype(np.uint8), levels[None].astype(np.float32), (spacing, 1.0, 1.0))
        for spacing in (5.0, 1.5)
    )
    kept = levels[:, :16, :16]
    for step in range(4):
        image, label = read_only(thick, step)
        assert np.allclose(image[0], kept, atol=1e-4) and (label.numpy() == kept).all()
    assert any(not np.allclose(read_only(thin, step)[0][0], kept, atol=1e-2) for step in range(4))


def test_intensities_vary_and_labels_do_not() -> None:
    rng = np.random.default_rng(0)
    image, label = rng.normal(size=(3, 16, 16)).astype(np.float16), rng.integers(0, 3, (16, 16)).astype(np.uint8)
    for kind in ("noise", "blur", "contrast", "brightness", "low_resolution", "gamma", "inverted_gamma", "invert"):
        varied, kept = read_only(make_maker(make_plan(**{f"{kind}_probability": 1.0}), (16, 16), label, image), 1)
        assert (kept.numpy() == label).all()
        assert varied.dtype == torch.float32 and np.isfinite(varied.numpy()).all()
        assert not np.allclose(varied.numpy(), image, atol=1e-4), kind


def test_inversion_turns_dark_into_bright() -> None:
    image = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 8, 8)
    make = make_maker(make_plan(invert_probability=1.0), (8, 8), np.zeros((8, 8), np.uint8), image)
    assert np.allclose(read_only(make, 0)[0].numpy(), -image)


@pytest.mark.parametrize(("shape", "turned"), [((6, 6), 8), ((6, 4), 4), ((3, 3, 3), 48), ((2, 3, 3), 16)])
def test_flips_and_turns_give_every_orientation_that_keeps_the_shape(shape: tuple[int, ...], turned: int) -> None:
    label = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    make = make_maker(make_plan(turned=True), shape, label)
    found = set()
    for step in range(20 * turned):
        image, same = read_only(make, step)
        assert torch.equal(image[0].long(), same)
        found.add(tuple(same.flatten().tolist()))
    assert len(found) == turned


def test_margins_are_those_of_the_patch_before_it_was_turned() -> None:
    plan = make_plan(quarter_turns=True, affine_probability=1.0, scale=0.5, rotate_degrees=0)
    make = make_maker(plan, (12, 12), np.zeros((60, 60), np.uint8))
    read = [make.read(step) for step in range(30)]
    turned = {raw.variations[0].turns[0][2] % 2 for raw in read if raw.shapes[0][1] != raw.shapes[0][2]}
    assert turned == {0, 1}
    for step, raw in enumerate(read):
        image, label = read_only(make, step)
        deformation = raw.variations[0].deformation
        assert deformation is not None
        margin = deformation.find_margin((12, 12))
        assert raw.shapes[0] == (1, *(12 + 2 * more for more in margin))
        assert image.shape == (1, 12, 12) and label.shape == (12, 12)


def test_probabilities_hold() -> None:
    augment = Augmentation(AugmentPlan(affine_probability=0.2, elastic_probability=0.0), (16, 16), None)
    drawn = [augment.draw(np.random.default_rng(seed)) for seed in range(2000)]
    assert np.mean([each.deformation is not None for each in drawn]) == pytest.approx(0.2, abs=0.03)
    assert np.mean([any(change.func.__name__ == "add_noise" for change in each.changes) for each in drawn]) == (  # type: ignore[attr-defined]
        pytest.approx(0.1, abs=0.03)
    )


def test_plans_of_before_these_variations_are_read() -> None:
    written = AugmentPlan(scale=0.1).model_dump()
    new = ("elastic", "low_resolution", "inverted_gamma")
    old = {name: value for name, value in written.items() if not name.startswith(new)}
    assert AugmentPlan.model_validate(old) == AugmentPlan(scale=0.1)
