"""Plans for made-up fingerprints, with a made-up machine that is never timed."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch

from unetpp.data.preprocess import network_grid
from unetpp.errors import PlanError
from unetpp.plan import ChannelRange, LabelPlan, Plan
from unetpp.planning import planner
from unetpp.planning.cost import count_cost
from unetpp.planning.fingerprint import ChannelFacts, Fingerprint
from unetpp.planning.planner import make_plan
from unetpp.planning.stages import LOW_RESOLUTION_FROM, count_patches


def fingerprint(**changes: Any) -> Fingerprint:
    channel = ChannelFacts(
        name="image",
        minimum=0,
        maximum=255,
        foreground_mean=100,
        foreground_std=20,
        foreground_low=50,
        foreground_high=150,
    )
    values: dict[str, Any] = {
        "name": "cells",
        "layout": "folder",
        "cases": 100,
        "dims": 2,
        "channels": (channel,),
        "classes": ("background", "foreground"),
        "label_values": (0, 255),
        "class_fractions": (0.9, 0.1),
        "labels": {"kind": "classes"},
        "label_meaning": "classes by value",
        "median_shape": (512, 512),
        "smallest_shape": (512, 512),
        "largest_shape": (512, 512),
        "median_spacing_mm": None,
        "spacing_varies": False,
        "voxels": 100 * 512 * 512,
    }
    return Fingerprint(**(values | changes))


def machine(model: Any, patch: Any, batch: int, precision: str) -> float:
    """Return the seconds of a step on a machine that is limited by memory traffic."""
    return 1e-8 * count_cost(model, patch).activations * batch


def plan_for(
    *, minutes: float | None = 20, epochs: int | None = None, settings: dict[str, Any] | None = None, **changes: Any
) -> Any:
    return make_plan(fingerprint(**changes), minutes=minutes, epochs=epochs, settings=settings, step_seconds=machine)


def test_wide_networks_are_not_timed_where_narrow_ones_are_slow_already() -> None:
    timed: list[int] = []

    def slow(model: Any, patch: Any, batch: int, precision: str) -> float:
        timed.append(model.widths[0])
        return model.widths[0] / 32

    assert make_plan(fingerprint(), minutes=20, step_seconds=slow).model.widths[0] == 16
    assert timed == [16, 32, 8]


def test_every_choice_has_a_reason() -> None:
    plan = plan_for()
    assert {
        "model.widths",
        "train.patch",
        "train.batch",
        "model.strides",
        "train.precision",
        "data.normalization",
        "predict.depth",
        "model.norm",
        "train.learning_rate",
        "predict.overlap",
    } <= set(plan.reasons)
    assert all(reason for reason in plan.reasons.values())


def test_the_meaning_of_labels_is_kept_with_its_reason() -> None:
    found = {"labels": {"kind": "binary", "cut": 128}, "label_meaning": "binary, cut at 128: gray outlines"}
    plan = plan_for(**found)
    assert (plan.data.labels.cut, plan.reasons["data.labels"]) == (128, "binary, cut at 128: gray outlines")
    plan = plan_for(settings={"data.labels": "binary"}, **found)
    assert (plan.data.labels.cut, plan.reasons["data.labels"]) == (128, "set by the user")


def test_a_class_of_very_few_voxels_is_named_where_its_weight_is() -> None:
    assert "train.class_weights" not in plan_for().reasons
    reason = plan_for(class_fractions=(0.9996, 0.0004)).reasons["train.class_weights"]
    assert reason.startswith("all the same, though foreground is 0.04 % of the voxels")


def test_declared_regions_have_an_output_each_unless_the_user_wants_classes() -> None:
    classes = {
        "classes": ("background", "edema", "core"),
        "label_values": (0, 1, 2),
        "class_fractions": (0.8, 0.1, 0.1),
    }
    regions = ({"name": "whole", "values": (1, 2)}, {"name": "core", "values": (2,)})
    plan = plan_for(**classes, regions=regions)
    assert (plan.model.out_channels, plan.data.outputs) == (2, ("whole", "core"))
    assert "declared" in plan.reasons["data.regions"]
    assert plan_for(**classes, regions=regions, settings={"data.regions": None}).model.out_channels == 3
    with pytest.raises(PlanError, match=r"train\.class_weights.*2 numbers, one for each logit \(whole, core\)"):
        plan_for(**classes, regions=regions, settings={"train.class_weights": [1, 2, 3]})


def test_more_time_gives_a_wider_network() -> None:
    widths = [plan_for(minutes=minutes).model.widths[0] for minutes in (1, 10, 100, 1000, 10_000)]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


def test_thick_slices_get_flat_kernels_and_strides() -> None:
    plan = plan_for(dims=3, median_shape=(20, 256, 256), median_spacing_mm=(5.0, 1.0, 1.0))
    assert plan.model.strides[0] == (1, 2, 2)
    assert plan.model.kernel_sizes[0] == (1, 3, 3)
    assert len(plan.train.patch) == 3


def test_voxel_sizes_that_differ_bring_all_cases_to_the_median() -> None:
    plan = plan_for(dims=3, median_shape=(30, 60, 60), median_spacing_mm=(2.0, 1.0, 1.0), spacing_varies=True)
    assert plan.data.spacing_mm == (2.0, 1.0, 1.0)


def test_settings_are_kept_and_the_other_fields_agree_with_them() -> None:
    plan = plan_for(settings={"model.depth": "2", "train.batch": "3", "train.augment.mirror": "false"})
    assert (plan.model.depth, len(plan.model.widths), plan.predict.depth, plan.train.batch) == (2, 3, 4, 3)
    assert not plan.train.augment.mirror
    assert plan.reasons["train.batch"] == "set by the user"
    assert plan_for(settings={"model.widths": "[4, 8, 16]"}).model.widths == (4, 8, 16)
    assert plan_for(settings={"model.widths": (4, 8, 16)}).model.widths == (4, 8, 16)
    assert plan_for(settings={"model.topology": "unet"}).model.topology == "unet"


@pytest.mark.parametrize(
    "setting",
    [
        "train.patch=128",
        "train.batch=abc",
        "train.batch=0",
        "model.depth=deep",
        "model.strides=2",
        "train.precision=bf8",
        "data.spacing_mm=1,1,1",
    ],
)
def test_a_setting_that_does_not_fit_is_refused_by_name(setting: str) -> None:
    key, value = setting.split("=")
    with pytest.raises(PlanError, match=f"{key}: got"):
        plan_for(settings={key: value})


@pytest.mark.parametrize(
    ("dims", "setting", "said"),
    [
        (
            2,
            "train.patch=[64,64,64]",
            r"train\.patch: got .* expected 2 numbers, one for each axis of this 2D data",
        ),
        (3, "train.patch=[64,64]", r"train\.patch: got .* expected 3 numbers"),
        (2, "predict.tile=[64]", r"predict\.tile: got .* expected 2 numbers"),
        (3, "data.spacing_mm=[1,1]", r"data\.spacing_mm: got .* expected 3 numbers"),
        (2, "model.strides=[[2],[2]]", r"model\.strides: got .* expected 2 numbers in each entry"),
        (2, "predict.depth=9", r"predict\.depth: .* expected 1 to model\.depth"),
    ],
)
def test_a_setting_of_another_length_or_range_is_refused_by_name(dims: int, setting: str, said: str) -> None:
    key, value = setting.split("=")
    with pytest.raises(PlanError, match=said):
        plan_for(
            settings={key: value},
            **({"dims": 3, "median_shape": (32, 48, 40), "median_spacing_mm": (1.0, 1.0, 1.0)} if dims == 3 else {}),
        )


def test_a_single_head_cannot_be_a_shallow_one() -> None:
    with pytest.raises(PlanError, match=r"predict\.depth: .* the only head of this network"):
        plan_for(settings={"model.topology": "unet", "predict.depth": "1"})


def test_the_voxel_size_is_kept_in_images_and_volumes() -> None:
    plan = plan_for(dims=3, median_shape=(20, 96, 96), median_spacing_mm=(6.0, 1.0, 1.0))
    assert plan.data.spacing_mm == plan.data.voxel_mm == (6.0, 1.0, 1.0)
    assert plan_for(median_spacing_mm=(0.0005, 0.0005)).data.spacing_mm == (0.0005, 0.0005)
    kept = plan_for(median_spacing_mm=(0.0005, 0.0005), settings={"data.spacing_mm": None}).data
    assert (kept.spacing_mm, kept.voxel_mm) == (None, (0.0005, 0.0005))


def test_volumes_are_turned_if_all_state_an_orientation() -> None:
    body: dict[str, Any] = {"dims": 3, "median_shape": (36, 50, 35), "median_spacing_mm": (0.05, 0.05, 0.05)}
    plan = plan_for(orientation="RAS", **body)
    assert plan.data.orientation == "RAS"
    assert not plan.train.augment.mirror
    plan = plan_for(without_orientation=2, **body)
    assert plan.data.orientation is None
    assert plan.train.augment.mirror
    assert plan.reasons["data.orientation"].startswith("2 volumes without an orientation")
    assert "data.orientation" not in plan_for().reasons


def test_the_range_of_the_training_has_the_scale_of_the_normalization() -> None:
    levels, scaled = ChannelRange(low=(-1000, -900), high=(200, 300)), ChannelRange(low=(-2, -1), high=(1, 3))
    measured = {"levels": levels, "standardized": scaled}
    for name, expected in (("CT", levels), ("MRI", scaled)):
        channel = fingerprint().channels[0].model_copy(update={"name": name, **measured})
        sizes = {"smallest_spacing_mm": (1.0, 1.0), "largest_spacing_mm": (1.0, 2.0)}
        found = plan_for(channels=(channel,), file_channels=(1,), **sizes).data.training_range
        assert found is not None
        assert found.intensities == (expected,)
        assert (found.smallest_mm, found.largest_mm) == ((1.0, 1.0), (1.0, 2.0))
    assert plan_for().data.training_range is None


def test_a_short_training_of_images_has_a_level_less_unless_depths_are_sizes() -> None:
    short = plan_for(minutes=6)
    assert (short.train.patch, short.model.depth, short.model.topology) == ((128, 128), 3, "unet")
    assert "in 10 minutes a level less" in short.reasons["model.depth"]
    assert plan_for(minutes=20).model.depth == plan_for(minutes=None, epochs=2).model.depth == 4
    for settings in ({"model.topology": "unet++"}, {"model.preset": "paper"}, {"predict.depth": 2}, {"model.depth": 4}):
        assert plan_for(minutes=6, settings=settings).model.depth == 4
    assert plan_for(minutes=6, settings={"model.topology": "unet"}).model.depth == 3
    assert plan_for(minutes=6, settings={"train.patch": (256, 256)}).model.depth == 4


@pytest.mark.parametrize("side", [48, 96, 250])
def test_a_volume_of_one_slice_gets_the_network_of_an_image(side: int) -> None:
    image, volume = plan_for(median_shape=(side, side)), plan_for(dims=3, median_shape=(1, side, side))
    assert volume.model.strides == tuple((1, *stride) for stride in image.model.strides)
    assert volume.model.kernel_sizes == tuple((1, *kernel) for kernel in image.model.kernel_sizes)
    assert volume.train.patch == (1, *image.train.patch)
    assert volume.predict.tile == (1, *image.predict.tile)


def test_a_slab_is_down_sampled_in_its_plane_as_far_as_that_allows() -> None:
    plan = plan_for(dims=3, median_shape=(10, 128, 128), median_spacing_mm=(1.0, 1.0, 1.0))
    assert [stride[1:] for stride in plan.model.strides] == [(2, 2)] * 4
    assert all(kernel[1:] == (3, 3) for kernel in plan.model.kernel_sizes)


def test_a_batch_that_does_not_fit_the_memory_is_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = plan_for().train.batch
    monkeypatch.setattr("unetpp.planning.room.measure_memory", lambda device: 1e6)
    assert plan_for().train.batch == 1 < whole
    assert plan_for(settings={"train.batch": 4}).train.batch == 4


def test_a_network_that_does_not_fit_a_gpu_ends_the_search_and_not_the_planning() -> None:
    def small_gpu(model: Any, patch: Any, batch: int, precision: str) -> float:
        if model.widths[0] > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 0.01

    assert make_plan(fingerprint(), minutes=20, step_seconds=small_gpu).model.widths[0] == 16


def test_too_little_time_is_given_as_the_reason() -> None:
    plan = make_plan(fingerprint(), minutes=1, step_seconds=lambda *_: 1.0)
    assert plan.model.widths[0] == 16
    assert "the narrowest, though fewer than the wanted" in plan.reasons["model.widths"]


def test_a_batch_is_traded_for_steps_where_there_would_be_few() -> None:
    def slow(model: Any, patch: Any, batch: int, precision: str) -> float:
        return 0.05 * batch

    plan = make_plan(fingerprint(), minutes=1, step_seconds=slow)
    assert (plan_for().train.batch, plan.train.batch) == (16, 8)
    assert "too few" in plan.reasons["train.batch"]
    assert make_plan(fingerprint(), minutes=1, settings={"train.batch": 8}, step_seconds=slow).train.batch == 8


def test_shells_in_channels_say_how_wide_the_network_is() -> None:
    model = plan_for(settings={"model.shells": [8, 32]}).model
    assert (model.widths[0], model.shells, model.shell_channels) == (32, (0.25, 1.0), (8, 32))
    assert plan_for(minutes=1, settings={"model.shells": [0.5, 1], "model.widths": [16, 32, 64]}).model.shells == (
        0.5,
        1,
    )


def test_widths_that_the_shells_do_not_divide_are_no_candidates() -> None:
    assert plan_for(minutes=0.01, settings={"model.shells": [0.5, 1]}).model.widths[0] == 16
    with pytest.raises(PlanError, match=r"got \[0.3, 1\]; .* shell 0.3 has 2.4 of 8"):
        plan_for(minutes=1, settings={"model.shells": [0.3, 1]})


def test_flips_can_be_set_without_quarter_turns() -> None:
    body = {"dims": 3, "median_shape": (36, 50, 35), "median_spacing_mm": (1.0, 1.0, 1.0)}
    augment = plan_for(settings={"train.augment.mirror": "true"}, **body).train.augment
    assert (augment.mirror, augment.quarter_turns) == (True, False)


def test_epochs_replace_minutes() -> None:
    plan = plan_for(minutes=None, epochs=7)
    assert (plan.train.epochs, plan.train.minutes) == (7, None)


def test_an_unknown_setting_is_refused_with_the_nearest() -> None:
    with pytest.raises(PlanError, match=r"Did you mean train\.batch"):
        plan_for(settings={"train.bacth": "3"})


@pytest.mark.parametrize("shape", [(9, 2000), (1, 1), (31, 33)])
def test_strange_shapes_give_a_plan_too(shape: tuple[int, int]) -> None:
    plan = plan_for(median_shape=shape)
    assert plan.model.depth >= 1
    assert all(size >= 1 for size in plan.train.patch)


def test_variation_follows_from_the_passes_over_the_data() -> None:
    once, often = plan_for(epochs=1), plan_for(epochs=5000)
    assert once.train.augment.affine_probability == 0
    assert once.train.augment.mirror
    assert often.train.augment.affine_probability > 0
    assert "passes over the data" in once.reasons["train.augment.affine_probability"]


def test_voxels_that_nobody_labeled_reach_the_plan() -> None:
    plan = plan_for(labels=LabelPlan(ignore=9))
    assert plan.data.labels == LabelPlan(ignore=9)
    assert plan_for().data.labels == LabelPlan()
    assert plan_for(settings={"data.fill": "0"}).data.fill == 0


def test_rules_of_geometry_reach_the_plan() -> None:
    body: dict[str, Any] = {"dims": 3, "median_shape": (60, 512, 512), "median_spacing_mm": (5.0, 0.8, 0.8)}
    plan = plan_for(**body, minutes=600, spacing_varies=True, fine_spacing_mm=(2.5, 0.7, 0.7))
    assert plan.data.spacing_mm == plan.data.voxel_mm == (2.5, 0.8, 0.8)
    assert plan.data.resampling == "cubic"
    assert {"data.resampling", "model.depth"} <= set(plan.reasons)
    sides = [side * mm for side, mm in zip(plan.train.patch, plan.data.voxel_mm, strict=True)]
    assert max(sides) < 1.5 * min(sides)
    assert [line.partition(":")[0] for line in plan.considered] == [
        "low resolution first, chosen",
        "3D alone, worth a comparison",
        "2D, worth a comparison",
    ]
    assert Plan.from_json(plan.to_json()) == plan
    assert plan_for(**body).data.resampling == "linear"


def test_a_resolution_reaches_the_plan() -> None:
    body: dict[str, Any] = {"dims": 3, "median_shape": (300, 512, 512), "median_spacing_mm": (1.5, 0.8, 0.8)}
    full, low, cascade = (plan_for(**body, settings={"data.resolution": name}) for name in ("full", "low", "cascade"))
    assert full.data.spacing_mm == cascade.data.spacing_mm == (1.5, 0.8, 0.8)
    assert full.model.in_channels == low.model.in_channels == 1
    assert cascade.model.in_channels == 1 + len(cascade.data.scored)
    assert min(new / old for new, old in zip(low.data.spacing_mm, (1.5, 0.8, 0.8), strict=True)) > 1.5
    assert low.data.resampling == "cubic" and low.data.voxel_mm == low.data.spacing_mm
    shape = network_grid((300, 512, 512), (1.5, 0.8, 0.8), low.data.spacing_mm)
    assert count_patches(shape, low.train.patch) <= LOW_RESOLUTION_FROM
    unasked, short = plan_for(**body, minutes=600), plan_for(**body)
    assert "quarter" in unasked.reasons["data.resolution"] and unasked.data.resolution == "cascade"
    assert "short" in short.reasons["data.resolution"] and short.data.resolution == "full"
    assert plan_for(**body, minutes=600, cases=9).data.resolution == "full"
    assert cascade.train.minutes == full.train.minutes and "40%" in cascade.reasons["train.minutes"]


@pytest.mark.parametrize("resolution", ["full", "low"])
def test_sizes_are_planned_once_for_each_grid(resolution: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[Any] = []
    original = planner.SizePlanner.plan

    def watch(self: Any) -> Any:
        planned.append(self.data)
        return original(self)

    monkeypatch.setattr(planner.SizePlanner, "plan", watch)
    body: dict[str, Any] = {"dims": 3, "median_shape": (300, 512, 512), "median_spacing_mm": (1.5, 0.8, 0.8)}
    plan = plan_for(**body, settings={"data.resolution": resolution})
    grids = [data.spacing_mm for data in planned]
    assert len(grids) == len(set(grids)) and plan.data.spacing_mm in grids
    assert (len(grids) == 1) == (resolution == "full")
    assert plan.reasons["train.patch"]


@pytest.mark.parametrize(
    ("facts", "settings", "word"),
    [
        ({}, {"data.resolution": "low"}, "2D"),
        ({"dims": 3, "median_shape": (40, 40, 40), "median_spacing_mm": (1.0, 1.0, 1.0)}, {}, "100%"),
        ({"dims": 3, "median_shape": (400, 400, 400), "median_spacing_mm": None}, {}, "voxel sizes"),
        (
            {"dims": 3, "median_shape": (400, 400, 400), "median_spacing_mm": (1.0, 1.0, 1.0)},
            {"data.spacing_mm": [2, 2, 2]},
            "data.spacing_mm",
        ),
    ],
)
def test_a_low_resolution_that_cannot_be_is_refused(facts: dict[str, Any], settings: dict[str, Any], word: str) -> None:
    with pytest.raises(PlanError, match=word):
        plan_for(**facts, settings={"data.resolution": "low", **settings})


def test_a_body_in_an_empty_image_is_normalized_by_itself() -> None:
    inside = ChannelRange(low=(-3, -2), high=(2, 3))
    channel = (
        fingerprint()
        .channels[0]
        .model_copy(update={"standardized": ChannelRange(low=(0, 0), high=(4, 5)), "standardized_inside": inside})
    )
    data = plan_for(inside=0.5, channels=(channel,), file_channels=(1,)).data
    assert data.normalization[0].nonzero
    assert data.training_range.intensities == (inside,)
    assert not plan_for(inside=0.8).data.normalization[0].nonzero


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((3, 3, 3), (1.0, 1.0, 1.0)),
        ((3, 3, 3), (999.0, 999.0, 999.0)),
        ((2000, 2000, 2000), (999.0, 1.0, 1.0)),
        ((2000, 2000, 2000), None),
        ((1, 2000, 3), (0.001, 1.0, 1.0)),
    ],
)
def test_strange_volumes_have_a_plan(shape: tuple[int, ...], spacing: tuple[float, ...] | None) -> None:
    plan = plan_for(dims=3, median_shape=shape, median_spacing_mm=spacing, minutes=None)
    multiples = [prod(steps) for steps in zip(*plan.model.strides, strict=True)]
    for side, size, step in zip(plan.train.patch, shape, multiples, strict=True):
        assert side % step == 0 and side < size + step
    assert prod(plan.train.patch) <= max(96**3, prod(multiples))
    assert len(plan.considered) == 3
