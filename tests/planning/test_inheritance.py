"""What a plan takes over from the model that training starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.planning.test_planner import fingerprint, machine
from tests.plans import small_plan
from unetpp.errors import UsageError
from unetpp.plan import SET_BY_USER, Normalization, Plan
from unetpp.planning.inheritance import AS_THERE
from unetpp.planning.planner import Start, make_plan


def plan_from(start: Plan, settings: dict[str, Any] | None = None, **changes: Any) -> Plan:
    origin = Start(Path("model.safetensors"), start, "cells, sha256 0123")
    return make_plan(fingerprint(**changes), minutes=20, settings=settings, start=origin, step_seconds=machine)


def test_the_network_is_that_of_the_model() -> None:
    start = small_plan(topology="unet+", norm="batch", block="plain", up="linear", dropout=0.1)
    made = plan_from(start)
    assert made.model == start.model
    assert made.reasons["model.widths"] == made.reasons["model.topology"] == AS_THERE
    assert "model.dropout" not in made.reasons  # one line for what matters
    assert made.train.start == "cells, sha256 0123"


def test_it_learns_at_the_usual_rates() -> None:
    made, usual = (
        plan_from(small_plan().changed({"train.learning_rate": 1e-4})),
        make_plan(fingerprint(), minutes=20, step_seconds=machine),
    )
    assert made.train.learning_rate == usual.train.learning_rate
    assert made.train.kernel_learning_rate == usual.train.kernel_learning_rate


def test_what_the_user_sets_is_not_taken_over() -> None:
    start = small_plan(widths=(4, 6, 8))
    made = plan_from(start, {"model.norm": "instance", "train.learning_rate": 0.01, "model.widths": [8, 8, 8]})
    assert (made.model.norm, made.model.widths, made.train.learning_rate) == ("instance", (8, 8, 8), 0.01)
    assert made.model.block == start.model.block
    assert made.reasons["model.norm"] == made.reasons["train.learning_rate"] == SET_BY_USER


@pytest.mark.parametrize(("depth", "widths"), [(1, (4, 6)), (4, (4, 6, 8, 16, 32))])
def test_another_depth(depth: int, widths: tuple[int, ...]) -> None:
    made = plan_from(small_plan(widths=(4, 6, 8)), {"model.depth": depth})
    assert (made.model.depth, made.model.widths, len(made.model.strides)) == (depth, widths, depth)
    assert made.predict.depth == depth


@pytest.mark.parametrize(("start", "fractions"), [({}, (1 / 3, 1)), ({"shells": (8, 16)}, (1 / 6, 1 / 3, 1))])
def test_wider_shells_widen_all_of_the_network(start: dict[str, Any], fractions: tuple[float, ...]) -> None:
    first = 16 if start else 8
    small = small_plan(
        widths=(first, 16, 24), up_widths=(8, 16), node_widths={"0_1": 32}, norm_groups=4, norm="group", **start
    )
    shells = [round(48 * fraction) for fraction in fractions]
    made = plan_from(small, {"model.shells": shells})
    factor = 48 // first
    assert made.model.shell_channels == tuple(shells) and made.train.growth == ()
    assert made.model.widths == (48, 16 * factor, 24 * factor)
    assert made.model.up_widths == (8 * factor, 16 * factor) and made.model.node_widths == {"0_1": 32 * factor}
    assert made.model.norm_groups == 4 * factor
    assert made.reasons["model.widths"] == f"{AS_THERE}, but 48 channels for model.shells"
    assert made.reasons["model.block"] == AS_THERE


def test_shells_that_are_fractions_divide_the_network_that_there_is() -> None:
    made = plan_from(small_plan(widths=(16, 16, 32)), {"model.shells": [0.5, 1]})
    assert made.model.widths == (16, 16, 32) and made.reasons["model.widths"] == AS_THERE


def test_another_preset_is_another_network() -> None:
    made = plan_from(small_plan(widths=(4, 6, 8)), {"model.preset": "paper"})
    assert made.model.norm == "none" and made.model.depth == 4


def test_a_3d_network_from_a_2d_one_has_the_strides_of_its_volumes() -> None:
    volumes = {name: (8, 64, 64) for name in ("median_shape", "smallest_shape", "largest_shape")}
    made = plan_from(small_plan(widths=(4, 6, 8)), dims=3, median_spacing_mm=(5.0, 1.0, 1.0), **volumes)
    assert made.model.dims == 3 and made.model.widths == (4, 6, 8)
    assert made.model.strides == ((1, 2, 2), (1, 2, 2)) and made.model.kernel_sizes[0] == (1, 3, 3)


def test_a_2d_encoder_does_not_fit_volumes() -> None:
    pytest.importorskip("timm")
    start = small_plan(channels=3, widths=None, encoder="resnet18")
    with pytest.raises(UsageError, match="a 2D network with the encoder resnet18"):
        plan_from(start, dims=3, median_shape=(32, 32, 32))
    assert plan_from(start).model.encoder == "resnet18"


def test_a_fixed_normalization_is_kept_where_the_data_is_on_its_scale() -> None:
    fixed = {"per_case": False, "lower": 0.0, "upper": 250.0, "mean": 120.0, "std": 40.0}
    start = small_plan(settings={"data.normalization": [fixed]})
    assert plan_from(start).data.normalization == (Normalization(**fixed),)
    channel = fingerprint().channels[0]
    bright = channel.model_copy(update={"foreground_mean": 20000.0, "maximum": 65535.0})
    assert plan_from(start, channels=(bright,)).data.normalization == (Normalization(),)
    assert plan_from(start, channels=(channel, channel.model_copy(update={"name": "other"}))).data.normalization == (
        Normalization(),
        Normalization(),
    )
