"""Channel shells: a network cut to a size is that size of the whole network, before and after training and growth."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unetpp.errors import PlanError
from unetpp.losses.supervision import DeepSupervisionLoss
from unetpp.model.build import build_from_plan, build_model, model_plan
from unetpp.model.network import UNetPlusPlus
from unetpp.model.pruned_plan import prune_plan
from unetpp.model.shells import grow, list_outer_blocks
from unetpp.plan import ModelPlan, TrainPlan
from unetpp.train.step import TrainingStep

CPU = torch.device("cpu")


def shelled(**fields: Any) -> UNetPlusPlus:
    torch.manual_seed(0)
    given = {
        "topology": "unet++",
        "widths": (8, 16, 24),
        "shells": (0.5, 1),
        "norm": "instance",
        "in_channels": 3,
        "out_channels": 3,
    }
    return build_model(**{**given, **fields})


def roughen(network: UNetPlusPlus) -> None:
    """Make scales, shifts and running statistics differ from channel to channel."""
    with torch.no_grad():
        for _, values in [*network.named_parameters(), *network.named_buffers()]:
            if values.ndim == 1:
                values.uniform_(0.5, 1.5)


networks = st.fixed_dictionaries(
    {
        "dims": st.sampled_from([2, 3]),
        "topology": st.sampled_from(["unet++", "unet+", "unet_e", "unet"]),
        "block": st.sampled_from(["plain", "residual", "projected"]),
        "norm": st.sampled_from(["instance", "batch", "none"]),
        "down": st.sampled_from(["pool", "conv", "first"]),
        "up": st.sampled_from(["transposed", "transposed_wide", "linear", "nearest", "pixel_shuffle"]),
        "up_projection": st.booleans(),
        "concat": st.sampled_from(["skips_up", "up_skips", "up_skips_reversed"]),
        "hidden_fraction": st.sampled_from([0.5, 1.0]),
        "shells": st.sampled_from([(0.5, 1), (0.25, 0.5, 1), (0.75, 1)]),
        "deep_supervision": st.booleans(),
        "head_kernel": st.sampled_from([1, 3]),
        "nested_widths": st.sampled_from([None, (16, 8)]),
    }
).filter(lambda fields: fields["block"] == "plain" or not fields["nested_widths"])


@st.composite
def networks_of_any_depth(draw: st.DrawFn) -> dict[str, Any]:
    """Networks of one to three depths, also with groups of 8 channels, as is the default, or with an encoder."""
    fields, depth = draw(networks), draw(st.integers(1, 3))
    fields |= {"widths": (8, 16, 24, 16)[: depth + 1]}
    if fields["nested_widths"]:
        fields["nested_widths"] = (16, 8, 16)[:depth]
    if draw(st.booleans()):
        width = 8 * max(round(1 / (after - before)) for before, after in pairwise((0, *fields["shells"])))
        fields |= {"norm": "group", "widths": (width,) * (depth + 1), "nested_widths": None, "hidden_fraction": 1.0}
    return fields


@given(fields=networks_of_any_depth(), data=st.data())
@settings(max_examples=20, deadline=None)
def test_a_network_cut_to_a_size_is_that_size_of_the_whole(fields: dict[str, Any], data: st.DataObject) -> None:
    network = shelled(**fields).double().eval()
    roughen(network)
    sizes = st.integers(1, 13 if fields["dims"] == 2 else 8)
    x = torch.randn(2, 3, *data.draw(st.tuples(*[sizes] * fields["dims"])), dtype=torch.float64)
    with torch.no_grad():
        whole = network(x, heads=True)
        for number in whole.depths:
            assert torch.allclose(network.prune(number)(x), whole.at(number), rtol=0, atol=1e-10)
        kept = network.prune(data.draw(st.sampled_from(whole.depths)), keep_heads=True)
        for number, logits in zip(*kept(x, heads=True), strict=True):
            size = kept._size(number)
            assert torch.allclose(logits, whole.at(size.number(network.depth)), rtol=0, atol=1e-10)


@given(fields=networks)
@settings(max_examples=15, deadline=None)
def test_heads_that_are_computed_together_in_training_are_those_of_each_size(fields: dict[str, Any]) -> None:
    network = shelled(**{**fields, "norm": "instance"}).double()
    x = torch.randn(2, 3, *(9, 6, 7)[: network.plan.dims], dtype=torch.float64)  # type: ignore[union-attr]
    gradients = {}
    for mode in (True, False):
        network.train(mode).zero_grad()
        outputs = network(x, heads=True)
        sum(each.square().mean() for each in outputs.logits).backward()
        gradients[mode] = [weight.grad for weight in network.parameters()]
        torch.testing.assert_close(outputs.logits, network.eval()(x, heads=True).logits)
    torch.testing.assert_close(gradients[True], gradients[False])


@given(fields=networks_of_any_depth(), data=st.data())
@settings(max_examples=10, deadline=None)
def test_sizes_agree_in_float32(fields: dict[str, Any], data: st.DataObject) -> None:
    network = shelled(**fields).eval()
    sizes = st.integers(7, 40 if fields["dims"] == 2 else 12)
    x = torch.randn(1, 3, *data.draw(st.tuples(*[sizes] * fields["dims"])))
    with torch.no_grad():
        whole, exact = network(x, heads=True), copy.deepcopy(network).double()(x.double(), heads=True)
        for number in whole.depths:
            largest = whole.at(number).abs().max()
            rounding = (whole.at(number) - exact.at(number)).abs().max()  # where it is more, in deep networks
            assert (network.prune(number)(x) - whole.at(number)).abs().max() <= max(1e-6 * largest, 3 * rounding)


@pytest.mark.parametrize("topology", ["unet", "unet++"])
def test_shells_around_an_encoder_all_read_its_feature_maps(topology: str) -> None:
    pytest.importorskip("timm")
    fields = {"topology": topology, "encoder": "test_resnet", "depth": 3, "first_width": 16, "norm": "group"}
    torch.manual_seed(0)
    network = build_model(**fields, shells=(0.5, 1), in_channels=1, out_channels=2).eval()
    x = torch.randn(1, 1, 45, 38)
    with torch.no_grad():
        whole = network(x, heads=True)
        assert whole.depths == ((3, 6) if topology == "unet" else (1, 2, 3, 4, 5, 6))
        for number in whole.depths:
            largest = whole.at(number).abs().max()
            assert (network.prune(number)(x) - whole.at(number)).abs().max() <= 2e-6 * largest


@given(fields=networks)
@settings(max_examples=12, deadline=None)
def test_the_plan_of_a_size_builds_its_network(fields: dict[str, Any]) -> None:
    network = shelled(**fields)
    plan = network.plan
    assert plan is not None
    for number in network.head_depths:
        for keep in (False, True):
            pruned = network.prune(number, keep).state_dict()
            built = build_from_plan(ModelPlan(**prune_plan(plan, number, keep).model_dump())).state_dict()
            assert {name: each.shape for name, each in pruned.items()} == {
                name: each.shape for name, each in built.items()
            }


def test_one_shell_is_the_network_as_it_was() -> None:
    torch.manual_seed(0)
    plain = build_model(
        topology="unet++", widths=(8, 16, 24), norm="instance", in_channels=3, out_channels=3
    ).state_dict()
    one = shelled(shells=(1,)).state_dict()
    assert plain.keys() == one.keys() and all(torch.equal(plain[name], one[name]) for name in plain)


def train(network: UNetPlusPlus, steps: int, **fields: Any) -> TrainingStep:
    plan = TrainPlan(**{"patch": (16, 16), "batch": 2, "steps_per_epoch": steps, "epochs": 1, **fields})
    assert network.plan is not None
    step = TrainingStep(network, network.plan, plan, CPU)
    for number in range(steps):
        torch.manual_seed(number)
        step((torch.randn(2, 3, 16, 16), torch.randint(0, 3, (2, 1, 16, 16))), number, (number + 1) / (steps + 1))
    return step


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_sizes_agree_after_training(optimizer: str) -> None:
    network = train(shelled(), 3, optimizer=optimizer).average
    x = torch.randn(1, 3, 20, 20)
    whole = network(x, heads=True)
    assert all(torch.allclose(network.prune(number)(x), whole.at(number), atol=1e-5) for number in whole.depths)
    assert list_outer_blocks(network) and not any(block.any() for block in list_outer_blocks(network))


def test_the_inner_size_is_trained_as_the_small_network_alone() -> None:
    """Clipping, which looks at all gradients, is out of the way, as are the heads of the other sizes."""
    whole = shelled(deep_supervision=False)
    alone = whole.prune(2)
    loss, target = DeepSupervisionLoss(), torch.randint(0, 3, (2, 1, 16, 16))
    x = torch.randn(2, 3, 16, 16)
    loss(alone(x, heads=True), target).backward()
    outputs = whole(x, heads=True)
    loss(outputs._replace(depths=outputs.depths[:1], logits=outputs.logits[:1]), target).backward()
    inner = alone.nodes["x_0_0"].get_parameter("units.0.conv.weight").grad
    outer = whole.nodes["x_0_0"].get_parameter("units.0.conv.weight").grad
    assert inner is not None and outer is not None
    assert torch.allclose(outer[:4], inner, atol=1e-6) and not outer[4:].any()


def test_growth_keeps_what_the_inner_sizes_compute_and_starts_the_new_ones_from_them() -> None:
    whole = shelled(shells=(0.25, 0.5, 1), widths=(16, 16, 32)).double().eval()
    inner = whole.prune(4, keep_heads=True).double()
    roughen(inner)
    grow(inner, whole, 2)
    x = torch.randn(1, 3, 12, 15, dtype=torch.float64)
    before, after = inner(x, heads=True), whole(x, heads=True)
    for number in before.depths:
        assert torch.allclose(before.at(number), after.at(number), rtol=0, atol=1e-10)
    for number in (5, 6):
        assert torch.allclose(after.at(number), after.at(number - 2), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"shells": (0.3, 1)}, "model.shells"),
        ({"shells": (1, 0.5)}, "model.shells"),
        ({"shells": (0.5, 0.75)}, "model.shells"),
        (
            {"shells": (4, 8), "norm": "group"},
            r"model.shells: got \[4, 8\].* 0.5 has 4 of 8; nodes of multiples of 16 ",
        ),
        ({"shells": (0.5, 1), "norm": "layer"}, "model.norm"),
        ({"shells": (0.5, 1), "attention": "scse"}, "model.attention"),
        ({"shells": (0.5, 1), "fusion": "mean"}, "model.fusion"),
        ({"shells": (0.5, 1), "norm": "group", "norm_groups": 3, "widths": (6, 12, 24)}, "model.norm_groups"),
        ({"shells": ()}, r"model\.shells: got \[\]; expected rising numbers"),
        (
            {"shells": (8, 16, 24)},
            r"model\.shells: got \[8, 16, 24\]; .* channels up to 8, which is model\.widths\[0\]",
        ),
        ({"shells": (8, 4)}, r"model\.shells: got \[8, 4\]; .* channels up to 8, which is model\.widths\[0\]"),
        ({"shells": (7, 16), "norm": "group", "widths": (16, 32, 64)}, r"0\.4375 has 7 of 16; \(8, 16\) would fit"),
        ({"shells": (5, 8, 32), "norm": "group", "widths": (32, 64, 96)}, r"0\.15625 .*; \(8, 32\) would fit"),
        ({"shells": (7, 8), "norm": "group"}, r"with model\.widths of multiples of 16 channels \(0\.5, 1\) would fit"),
        (
            {"shells": (0.5, 1), "block": "residual", "nested_widths": (16, 8), "up": "linear", "topology": "unet_e"},
            "model.block",
        ),
        ({"shells": (0.5, 1), "block": "residual", "in_channels": 4}, "model.block"),
    ],
)
def test_shells_that_do_not_fit_are_refused_by_name(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(PlanError, match=word):
        build_model(
            **{
                "topology": "unet++",
                "widths": (8, 16, 24),
                "in_channels": 1,
                "out_channels": 2,
                "norm": "instance",
                **fields,
            }
        )


def test_shells_are_also_given_as_channels() -> None:
    assert model_plan(widths=(8, 16, 24), in_channels=1, out_channels=2, norm="none", shells=(2, 8)).shells == (0.25, 1)


def test_a_cut_network_knows_its_plan() -> None:
    network = shelled()
    inner = network.prune(1)
    assert inner.plan is not None and inner.plan.widths == (4, 8) and inner.plan.shells == (1.0,)
    kept = network.prune(3, keep_heads=True)
    assert kept.plan is not None and kept.plan.shells == (0.5, 1.0) and kept.plan.depth == 1


def test_weights_of_a_network_without_shells_are_separated_when_they_are_loaded() -> None:
    network = shelled()
    network.load_state_dict({name: torch.randn_like(values) for name, values in network.state_dict().items()})
    x = torch.randn(1, 3, 9, 9)
    assert torch.allclose(network.prune(2)(x), network(x, heads=True).at(2), rtol=1e-4, atol=1e-4)
    kept = network.prune(4, keep_heads=True)
    kept.load_state_dict({name: torch.ones_like(values) for name, values in kept.state_dict().items()})
    assert not any(block.any() for block in list_outer_blocks(kept))
