"""The channels of a first stage on the device, and their variation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.data.test_first_stage import cascade_plan
from unetpp.data.first_stage import CODES
from unetpp.model.build import build_from_plan
from unetpp.train.first_stage import FirstStageChannels
from unetpp.train.step import TrainingStep


def vary(plan_changes: dict[str, Any], codes: Tensor, step: int | None = 0) -> Tensor:
    plan = cascade_plan().changed({f"train.augment.{key}": value for key, value in plan_changes.items()})
    images, labels = FirstStageChannels(plan)(torch.zeros(len(codes), 1, *codes.shape[2:]), codes, step)
    assert torch.equal(labels, codes % CODES)
    assert images.shape == (len(codes), 3, *codes.shape[2:])
    return images[:, 1:]


def make_codes() -> Tensor:
    first = torch.zeros(4, 1, 16, 16, 16, dtype=torch.int64)
    first[:, :, 4:9, 4:9, 4:9], first[:, :, 10:15, 10:15, 10:15] = 1, 2
    return first * CODES + torch.randint(0, 3, first.shape, generator=torch.Generator().manual_seed(0))


def test_without_variation_the_channels_are_the_classes() -> None:
    codes = make_codes()
    expected = torch.cat([codes // CODES == index for index in (1, 2)], dim=1).float()
    assert torch.equal(vary({}, codes, None), expected)
    assert torch.equal(vary({"first_stage_outlines": 0, "first_stage_misses": 0}, codes), expected)


def test_outlines_move_by_one_or_two_voxels_either_way() -> None:
    sizes = set()
    for step in range(12):
        found = vary({"first_stage_outlines": 1, "first_stage_misses": 0}, make_codes(), step)
        assert torch.equal(found, vary({"first_stage_outlines": 1, "first_stage_misses": 0}, make_codes(), step))
        sizes |= {round(float(each.sum()) ** (1 / 3), 3) for patch in found for each in patch[:1]}
        assert bool((found[:, :1].amax((0, 1)) <= 1).all())
    assert sizes == {1.0, 3.0, 7.0, 9.0}


def test_thick_slices_keep_their_outlines() -> None:
    plan = cascade_plan(voxel_mm=[5, 1, 1]).changed({"train.augment.first_stage_outlines": 1})
    plan = plan.changed({"train.augment.first_stage_misses": 0})
    images, _ = FirstStageChannels(plan)(torch.zeros(4, 1, 16, 16, 16), make_codes(), 0)
    assert all(set(patch[1].sum((1, 2)).nonzero().flatten().tolist()) == {4, 5, 6, 7, 8} for patch in images)


def test_a_class_is_missed_at_times() -> None:
    found = vary({"first_stage_outlines": 0, "first_stage_misses": 1}, make_codes())
    assert all(sorted(bool(each.any()) for each in patch) == [False, True] for patch in found)
    assert (
        len(
            {
                tuple(bool(each.any()) for each in patch)
                for step in range(5)
                for patch in vary({"first_stage_outlines": 0, "first_stage_misses": 1}, make_codes(), step)
            }
        )
        == 2
    )
    empty = torch.zeros(2, 1, 8, 8, 8, dtype=torch.int64)
    assert not vary({"first_stage_misses": 1}, empty).any()


def test_a_step_trains_on_what_the_first_stage_found() -> None:
    plan = cascade_plan()
    losses = []
    for first_stage in (FirstStageChannels(plan), FirstStageChannels(plan)):
        torch.manual_seed(0)
        network = build_from_plan(plan.model)
        step = TrainingStep(network, plan.model, plan.train, torch.device("cpu"), first_stage=first_stage)
        losses.append([step((torch.ones(4, 1, 16, 16, 16), make_codes()), number, 0.5) for number in range(2)])
    assert losses[0] == losses[1]


def test_a_share_of_a_batch_is_varied_as_in_the_whole() -> None:
    plan, codes = cascade_plan(), make_codes()
    make, images = FirstStageChannels(plan), torch.zeros(len(codes), 1, *codes.shape[2:])
    whole, _ = make(images, codes, 3)
    parts = [make(images[part], codes[part], 3, index=part.start)[0] for part in (slice(0, 1), slice(1, 4))]
    assert torch.equal(torch.cat(parts), whole)
