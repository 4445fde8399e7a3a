"""Weights of one network for another: other classes, channels, dims, depths and widths; small sizes that go on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.test_shells import networks, roughen
from tests.plans import small_plan
from unetpp.model.build import build_from_plan
from unetpp.model.network import UNetPlusPlus
from unetpp.model.pruned_plan import prune_plan
from unetpp.model.starting_weights import StartingWeights, fit_network, fit_weights
from unetpp.plan import Plan, Region
from unetpp.sizes import Size, find_size


def plan_of(
    channels: tuple[str, ...] = ("image",), classes: tuple[str, ...] = ("background", "cell"), **model: Any
) -> Plan:
    plan = small_plan(dims=model.pop("dims", 2), channels=len(channels), classes=len(classes), **model)
    data = plan.data.model_copy(update={"channels": channels, "classes": classes})
    return plan.model_copy(update={"data": data})


def build(plan: Plan, seed: int) -> UNetPlusPlus:
    torch.manual_seed(seed)
    return build_from_plan(plan.model).eval()


def fit(source: Plan, plan: Plan) -> tuple[UNetPlusPlus, UNetPlusPlus, StartingWeights]:
    """Return the trained network, the fitted one, and the fit."""
    theirs, ours = build(source, 1), build(plan, 2)
    found = fit_weights(theirs.state_dict(), source, ours.state_dict(), plan)
    ours.load_state_dict(found.weights)
    return theirs, ours, found


def test_the_same_network_is_taken_whole() -> None:
    theirs, ours, found = fit(plan_of(), plan_of())
    image = torch.randn(1, 1, 16, 16)
    assert torch.equal(theirs(image), ours(image)) and found.remarks == ()


def test_heads_keep_the_rows_of_classes_of_the_same_name() -> None:
    source, plan = plan_of(classes=("background", "cell", "wall")), plan_of(classes=("background", "spore", "cell"))
    theirs, ours, found = fit(source, plan)
    image = torch.randn(1, 1, 16, 16)
    before, after = theirs(image), ours(image)
    assert torch.equal(before[:, 0], after[:, 0]) and torch.equal(before[:, 1], after[:, 2])
    assert not torch.equal(before[:, 2], after[:, 1])
    assert found.remarks == ("heads: new: spore; left out: wall",)


def test_the_only_foreground_class_starts_as_the_other_one() -> None:
    theirs, ours, found = fit(plan_of(), plan_of(classes=("background", "spore")))
    image = torch.randn(1, 1, 16, 16)
    assert torch.equal(theirs(image), ours(image))
    assert found.remarks == ("heads: spore starts as cell",)
    _, _, found = fit(plan_of(), plan_of(classes=("background", "cell", "spore")))
    assert found.remarks == ("heads: 3 classes instead of 2; new: spore",)


def test_regions_start_as_the_classes_of_the_same_name_and_the_reverse() -> None:
    source, plan = plan_of(classes=("background", "edema", "core")), plan_of(classes=("background", "edema", "core"))
    regions = (Region(name="whole", values=(1, 2)), Region(name="core", values=(2,)))
    model = plan.model.model_copy(update={"out_channels": 2})
    plan = plan.model_copy(update={"data": plan.data.model_copy(update={"regions": regions}), "model": model})
    for before, after, pair in ((source, plan, (2, 1)), (plan, source, (1, 2))):
        theirs, ours, found = fit(before, after)
        image = torch.randn(1, 1, 16, 16)
        assert torch.equal(theirs(image)[:, pair[0]], ours(image)[:, pair[1]])
        assert found.remarks[0].startswith(f"heads: {len(after.data.outputs)} ")
    assert found.remarks == ("heads: 3 classes instead of 2 regions; new: background, edema; left out: whole",)


def test_grey_weights_give_colors_equal_shares() -> None:
    theirs, ours, found = fit(plan_of(), plan_of(("red", "green", "blue")))
    image = torch.randn(1, 1, 16, 16)
    assert torch.allclose(theirs(image), ours(image.expand(-1, 3, -1, -1)), atol=1e-4)
    assert found.remarks[0].startswith(
        "first convolution: 3 channels (red, green, blue) instead of 1 (image); each gets"
    )


def test_colors_give_grey_their_sum() -> None:
    theirs, ours, _ = fit(plan_of(("red", "green", "blue")), plan_of())
    image = torch.randn(1, 1, 16, 16)
    assert torch.allclose(theirs(image.expand(-1, 3, -1, -1)), ours(image), atol=1e-4)


@pytest.mark.parametrize("widths", [(4, 6, 8), (3, 6, 8)])  # 3: a second kernel has as many inputs as the image
def test_channels_are_matched_by_name_and_new_ones_change_nothing(widths: tuple[int, ...]) -> None:
    network: dict[str, Any] = {"widths": widths, "block": "plain"}
    source, plan = plan_of(("t1", "t2", "flair"), **network), plan_of(("flair", "adc", "t1"), **network)
    theirs, ours, found = fit(source, plan)
    image = torch.randn(1, 3, 16, 16)
    seen = torch.stack([image[:, 2], torch.zeros(1, 16, 16), image[:, 0]], dim=1)
    assert torch.allclose(theirs(seen), ours(image), atol=1e-4)
    assert found.remarks[0].endswith("matched by name, new ones start at 0")


def test_other_names_of_as_many_channels_are_taken_in_order() -> None:
    theirs, ours, found = fit(plan_of(("image",)), plan_of(("grey",)))
    image = torch.randn(1, 1, 16, 16)
    assert torch.equal(theirs(image), ours(image)) and len(found.remarks) == 1


@pytest.mark.parametrize("up", ["transposed", "transposed_wide", "linear"])
def test_a_3d_network_sees_each_slice_as_the_2d_one_did(up: str) -> None:
    flat = {"strides": [[2, 2], [2, 2]], "up": up, "odd_sizes": "ceil"}
    theirs, ours, found = fit(plan_of(**flat), plan_of(dims=3, **flat | {"strides": [[1, 2, 2], [1, 2, 2]]}))
    image = torch.randn(1, 1, 5, 16, 16)
    slices = torch.stack([theirs(image[:, :, z]) for z in range(5)], dim=2)
    # group norm sees the whole volume, so only a volume of equal slices is the same
    same = image[:, :, :1].expand(-1, -1, 5, -1, -1)
    assert found.remarks == () and slices.shape == ours(image).shape
    assert torch.allclose(ours(same)[:, :, 2], slices[:, :, 0], atol=1e-3)


def test_planes_of_3d_kernels_are_summed_for_2d() -> None:
    theirs, ours, found = fit(plan_of(dims=3), plan_of())
    assert found.remarks == () and found.kernels > 10
    kernel, flat = (each.state_dict()["nodes.x_1_0.units.1.conv.weight"] for each in (theirs, ours))
    assert torch.equal(kernel.sum(dim=2), flat)
    up, flat = (each.state_dict()["ups.x_0_1.weight"] for each in (theirs, ours))
    assert torch.equal(up.mean(dim=2), flat)


def test_a_deeper_network_takes_all_of_a_shallower_one() -> None:
    theirs, ours, found = fit(plan_of(widths=(4, 6)), plan_of(widths=(4, 6, 8)))
    image = torch.randn(1, 1, 16, 16)
    assert torch.equal(theirs(image), ours(image, depth=1))
    assert found.remarks == ("begin at random, as nothing fits: X[2, 0], X[1, 1], X[0, 2], head 2",)


def test_what_does_not_fit_is_named_and_random() -> None:
    source, plan = plan_of(), plan_of(widths=(4, 6, 10))
    theirs, ours, found = fit(source, plan)
    assert found.remarks == ("begin at random, as nothing fits: X[2, 0], X[1, 1]",)
    random = build(plan, 2).state_dict()
    for name, weight in ours.state_dict().items():
        taken = name in theirs.state_dict() and theirs.state_dict()[name].shape == weight.shape
        assert torch.equal(weight, theirs.state_dict()[name] if taken else random[name])


def test_networks_with_nothing_in_common() -> None:
    _, _, found = fit(plan_of(widths=(4, 6)), plan_of(widths=(8, 16)))
    assert found.kernels == 0


def go_on(source: Plan, plan: Plan) -> tuple[UNetPlusPlus, UNetPlusPlus, StartingWeights]:
    """Return a trained network, the one that starts from it, and what was taken; both in float64."""
    theirs, ours = build(source, 1), build(plan, 2)
    roughen(theirs)
    found = fit_network(theirs, source, ours, plan)
    started = build(plan, 3)
    started.load_state_dict(found.weights)
    return theirs.double(), started.double(), found


@given(fields=networks, data=st.data())
@settings(max_examples=30, deadline=None)
def test_every_size_starts_with_the_answer_of_the_small_network(fields: dict[str, Any], data: st.DataObject) -> None:
    plan = plan_of(("a", "b", "c"), ("background", "cell", "wall"), widths=(8, 16, 24), **fields)
    shell = data.draw(st.integers(0, len(plan.model.shells) - 2))
    small = prune_plan(plan.model, Size(2, shell).number(2), keep_heads=True)
    theirs, ours, found = go_on(plan.model_copy(update={"model": small}), plan)
    image = torch.randn(1, 3, *data.draw(st.tuples(*[st.integers(2, 13)] * plan.model.dims)), dtype=torch.float64)
    with torch.no_grad():
        before, after = theirs(image, heads=True), ours(image, heads=True)
    assert len(after.depths) == len(before.depths) // (shell + 1) * len(plan.model.shells)
    for number, logits in zip(*after, strict=True):
        size = find_size(number, 2)
        expected = before.at(Size(size.depth, min(size.shell, shell)).number(2))
        assert torch.allclose(logits, expected, rtol=0, atol=1e-9)
    inner, outer = plan.model.shell_channels[shell], plan.model.widths[0]
    assert [text.partition(";")[0] for text in found.remarks] == [
        f"the inner {inner} of {outer} channels start from its weights"
    ]
    new = ours.state_dict()["nodes.x_0_0.units.0.conv.weight"][inner:]
    assert new.any() and torch.equal(
        new.float(), build(plan, 2).state_dict()["nodes.x_0_0.units.0.conv.weight"][inner:]
    )


def test_a_network_pruned_to_a_size_goes_on_with_its_only_head() -> None:
    wide = {"widths": (16, 32, 64), "shells": (0.5, 1)}
    plan = plan_of(deep_supervision=False, **wide)
    small = prune_plan(plan_of(**wide).model, 2)
    theirs, ours, _ = go_on(plan.model_copy(update={"model": small}), plan)
    image = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    assert theirs.head_depths == (2,) and ours.head_depths == (2, 4)
    assert all(torch.allclose(ours(image, depth), theirs(image), rtol=0, atol=1e-9) for depth in (2, 4))


def test_a_deeper_and_wider_network_starts_from_both_shells_of_a_shallower_one() -> None:
    small = {"norm": "instance", "shells": (4, 8)}
    theirs, ours, found = go_on(
        plan_of(widths=(8, 12), **small), plan_of(widths=(16, 24, 40), norm="instance", shells=(4, 8, 16))
    )
    image = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    for number, expected in {1: 1, 3: 2, 5: 2}.items():
        assert torch.allclose(ours(image, number), theirs(image, expected), rtol=0, atol=1e-9)
    assert found.remarks[1] == "begin at random, as nothing fits: X[2, 0], X[1, 1], X[0, 2], head 2x4, head 2x8"


def test_the_inner_part_of_a_wider_network_is_taken() -> None:
    fields = {"norm": "instance", "deep_supervision": False}
    theirs, ours, found = go_on(
        plan_of(widths=(8, 12, 16), shells=(4, 8), **fields), plan_of(widths=(12, 18, 24), shells=(4, 12), **fields)
    )
    image = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    assert all(torch.allclose(ours(image, number), theirs(image, 2), rtol=0, atol=1e-9) for number in (2, 4))
    assert found.remarks[0].startswith("the inner 4 of 12 channels start from the inner 4 of its 8;")
    plain = plan_of(widths=(4, 6, 8), **fields)
    theirs, ours, found = go_on(plan_of(widths=(8, 12, 16), shells=(4, 8), **fields), plain)
    assert torch.allclose(ours(image), theirs(image, 2), rtol=0, atol=1e-9)
    assert found.remarks == ("all 4 channels of level 0 start from the inner 4 of its 8",)


def test_shells_inside_a_network_of_one_width_leave_weights_out() -> None:
    fields = {"widths": (8, 12, 16), "norm": "instance"}
    theirs, ours, found = go_on(plan_of(**fields), plan_of(**fields, shells=(4, 8)))
    assert torch.equal(ours.heads["4"].get_parameter("weight"), theirs.heads["2"].get_parameter("weight"))
    assert found.remarks == (
        "shells of 4 channels, which do not read those outside of them: these weights are left out, so that the "
        "answers change",
        "begin at random, as nothing fits: head 1x4, head 2x4",
    )
