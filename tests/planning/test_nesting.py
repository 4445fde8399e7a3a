"""How the sizes of a network are nested and trained, where the user leaves that open."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.planning.test_planner import fingerprint, plan_for
from unetpp.model.build import build_from_plan, model_plan
from unetpp.planning.nesting import average_seconds, choose_growth, explain_nesting
from unetpp.planning.planner import make_plan


def test_a_plan_has_two_sizes_nested_in_width() -> None:
    plan = plan_for(minutes=100)
    assert (plan.model.topology, plan.model.shells) == ("unet", (0.5, 1.0))
    assert list(plan.model.list_sizes()) == [plan.model.depth, 2 * plan.model.depth]
    assert plan.predict.depth == 2 * plan.model.depth
    assert {"model.shells", "train.growth", "train.distillation"} <= set(plan.reasons)


@pytest.mark.parametrize(
    "settings",
    [
        {"model.topology": "unet++"},
        {"model.topology": "unet"},
        {"model.preset": "paper"},
        {"model.fusion": "mean"},
        {"model.node_widths": {"0_1": 8}},
        {"predict.depth": 2},
    ],
)
def test_what_the_user_sets_of_the_grid_keeps_one_width(settings: dict[str, Any]) -> None:
    plan = plan_for(minutes=100, settings=settings)
    assert plan.model.shells == (1.0,)
    assert plan.model.topology == settings.get("model.topology", "unet++")
    assert (plan.train.growth, plan.train.distillation) == ((), False)


@pytest.mark.parametrize(
    "settings", [{"model.attention": "scse"}, {"model.widths": [4, 8, 16]}, {"model.norm": "layer"}]
)
def test_where_shells_do_not_fit_the_network_has_one_width(settings: dict[str, Any]) -> None:
    plan = plan_for(settings=settings)
    assert (plan.model.topology, plan.model.shells, plan.train.growth) == ("unet", (1.0,), ())
    assert "one width" in plan.reasons["model.shells"]


def test_shells_of_the_user_are_those_of_a_unet() -> None:
    assert plan_for(settings={"model.shells": [1]}).model.topology == "unet"
    plan = plan_for(settings={"model.shells": [8, 16, 32]})
    assert (plan.model.topology, plan.model.shell_channels) == ("unet", (8, 16, 32))
    assert plan.train.growth == (0.375, 0.75)


def test_little_time_takes_the_narrowest_network_that_holds_another() -> None:
    timed = []

    def step_seconds(model: Any, *_: Any) -> float:
        timed.append(model.widths[0])
        return 1.0 if len(model.shells) > 1 else 0.3

    plan = make_plan(fingerprint(), minutes=10, step_seconds=step_seconds)
    assert (plan.model.widths[0], plan.model.shells) == (16, (0.5, 1.0))
    assert timed == [16, 8]
    assert (plan.train.growth, plan.train.distillation) == ((0.75,), True)
    assert "at most 1650 steps of 0.36 s" in plan.reasons["train.minutes"]


@pytest.mark.parametrize(("steps", "growth"), [(1, ()), (3, ()), (4, (0.75,))])
def test_few_steps_are_those_of_all_sizes(steps: int, growth: tuple[float, ...]) -> None:
    plan = plan_for(minutes=None, epochs=1, settings={"train.steps_per_epoch": steps})
    assert (plan.model.shells, plan.train.growth) == ((0.5, 1.0), growth)


def test_an_inner_size_that_is_hardly_faster_is_not_trained_alone() -> None:
    plan = make_plan(fingerprint(), minutes=100, step_seconds=lambda model, *_: 1.0)
    assert plan.train.growth == () and plan.train.distillation
    assert "100% of the time" in plan.reasons["train.growth"]


def test_the_schedule_that_the_user_sets_is_kept() -> None:
    plan = plan_for(minutes=100, settings={"train.growth": [0.25]})
    assert (plan.train.growth, plan.train.distillation) == ((0.25,), True)
    plan = plan_for(minutes=100, settings={"train.distillation": False})
    assert (plan.train.growth, plan.train.distillation) == ((0.75,), False)


@pytest.mark.parametrize(
    ("dims", "share", "grows"), [(2, None, True), (2, 0.6, True), (2, 0.9, False), (3, None, False)]
)
def test_images_grow_from_the_inside_where_that_saves_time(dims: int, share: float | None, grows: bool) -> None:
    growth = choose_growth(2, dims, share)
    assert (growth.value == (0.75,)) is grows
    assert growth.reason


def test_the_mean_step_is_that_of_all_phases() -> None:
    seconds = average_seconds(2.0, [0.25], (0.5,))
    assert 100 / seconds == pytest.approx(50 / 0.5 + 50 / 2.0)
    of_three = average_seconds(2.0, [0.25, 0.5], (0.4, 0.7))
    assert 100 / of_three == pytest.approx(40 / 0.5 + 30 / 1.0 + 30 / 2.0)
    from_the_second = average_seconds(2.0, [0.25, 0.5], (0.4,))  # the two inner ones together, then all
    assert 100 / from_the_second == pytest.approx(40 / 1.0 + 60 / 2.0)
    assert average_seconds(2.0, [0.25], ()) == average_seconds(2.0, [], (0.5,)) == 2.0


@pytest.mark.parametrize(
    "fields", [{}, {"norm": "batch", "widths": (8, 16, 32)}, {"fusion": "mean"}, {"shells": (0.25, 1)}]
)
def test_the_builder_nests_as_the_planner_does(fields: dict[str, Any]) -> None:
    plan = plan_for(minutes=100, settings={f"model.{name}": value for name, value in fields.items()})
    grid = {name: getattr(plan.model, name) for name in ("strides", "kernel_sizes", "widths")}
    assert plan.model == model_plan(**{**grid, **fields})


def test_an_image_of_as_many_channels_as_a_shell_is_planned_with_widths_that_can_be_built() -> None:
    channels = tuple(fingerprint().channels[0].model_copy(update={"name": f"marker {n}"}) for n in range(8))
    plan = plan_for(minutes=100, channels=channels)
    assert 8 not in plan.model.shell_channels
    with torch.device("meta"):
        build_from_plan(plan.model)


def test_reasons_are_given_for_what_the_user_left_open() -> None:
    assert set(explain_nesting(model_plan(), ())) == {"topology", "shells"}
    assert set(explain_nesting(model_plan(shells=(1,)), ("shells",))) == {"topology"}
    assert explain_nesting(model_plan(topology="unet"), ("topology",)) == {}
    assert "depth" in explain_nesting(model_plan(fusion="mean"), ("fusion",))["topology"]
