"""The paper preset against the exact counts of the papers' networks; random plans are built, or refused by name."""

from __future__ import annotations

import doctest
import inspect
import re
import tempfile
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tests.plans import small_plan
from unetpp.errors import ModelFileError, PlanError, UsageError
from unetpp.model import build
from unetpp.model.build import build_from_plan, build_model, model_plan
from unetpp.model.encoder_weights import require_source
from unetpp.model.fields import ModelFields
from unetpp.model.file import load_model, save_model
from unetpp.model.pruned_plan import prune_plan
from unetpp.plan import ModelPlan, Plan
from unetpp.settings import validate

WIDE = (35, 70, 140, 280, 560)


def count(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"topology": "unet"}, 7_759_521),
        ({"topology": "unet", "widths": WIDE}, 9_282_246),
        ({"topology": "unet+", "deep_supervision": False}, 8_728_257),
        ({"topology": "unet_e"}, 8_728_356),
        ({"deep_supervision": False}, 9_041_601),
        ({}, 9_041_700),
        ({"topology": "unet", "dims": 3}, 22_575_329),
        ({"topology": "unet", "dims": 3, "widths": WIDE}, 27_006_176),
        ({"topology": "unet+", "dims": 3, "deep_supervision": False}, 25_258_241),
        ({"dims": 3, "deep_supervision": False}, 26_198_273),
    ],
)
def test_paper_preset_has_the_papers_parameters(fields: dict, expected: int) -> None:
    with torch.device("meta"):
        assert count(build_model(preset="paper", in_channels=1, out_channels=1, **fields)) == expected


@pytest.mark.parametrize(("depth", "expected"), [(1, 100_961), (2, 511_105), (3, 2_204_961)])
def test_pruned_paper_networks_have_the_papers_parameters(depth: int, expected: int) -> None:
    network = build_model(preset="paper", in_channels=1, out_channels=1)
    assert count(network.prune(depth)) == expected


def test_the_default_is_a_unet_of_two_widths() -> None:
    network = build_model()
    assert network.plan is not None
    assert (network.plan.topology, network.plan.shells, network.head_depths) == ("unet", (0.5, 1), (4, 8))
    image = torch.randn(1, 1, 20, 30)
    torch.testing.assert_close(network.eval().prune(4)(image), network(image, depth=4))


@pytest.mark.parametrize(
    ("fields", "topology"),
    [
        ({"topology": "unet++"}, "unet++"),
        ({"topology": "unet"}, "unet"),
        ({"preset": "paper"}, "unet++"),
        ({"preset": "paper_wide_unet", "fusion": "mean"}, "unet"),
        ({"preset": "resenc"}, "unet++"),
        ({"encoder": "resenc"}, "unet++"),
        ({"fusion": "mean"}, "unet++"),
        ({"node_widths": {"0_2": 8}}, "unet++"),
        ({"widths": (4, 6)}, "unet"),
        ({"norm": "layer"}, "unet"),
        ({"in_channels": 8}, "unet"),
    ],
)
def test_other_members_of_the_family_and_widths_that_cannot_be_halved_have_one_width(
    fields: dict[str, Any], topology: str
) -> None:
    plan = model_plan(**fields)
    assert (plan.topology, plan.shells) == (topology, (1.0,))
    with torch.device("meta"):
        build_from_plan(plan)


def test_pruned_plan_describes_the_pruned_network() -> None:
    plan = model_plan(topology="unet++", widths=(4, 6, 8, 10))
    pruned = build_from_plan(plan).prune(2)
    assert {name: weight.shape for name, weight in build_from_plan(prune_plan(plan, 2)).state_dict().items()} == {
        name: weight.shape for name, weight in pruned.state_dict().items()
    }


def test_paper_network_is_initialised_as_he_et_al_propose() -> None:
    network = build_model(preset="paper", in_channels=1, out_channels=1, depth=2)
    weight = network.nodes["x_1_1"].units[0].conv.weight
    assert weight.std().item() == pytest.approx((2 / (9 * weight.shape[1])) ** 0.5, rel=0.05)
    assert not network.nodes["x_1_1"].units[0].conv.bias.any()


def test_unknown_names_are_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(UsageError, match="Did you mean widths"):
        build_model(width=(8, 16))
    with pytest.raises(UsageError, match="preset"):
        build_model(preset="papr")
    with pytest.raises(PlanError, match=r"model\.widths"):
        build_model(depth=2, widths=(8, 16))


NORMS = st.sampled_from(["batch", "instance", "group", "layer", "none"])
CHOICES: dict[str, st.SearchStrategy[Any]] = {
    "topology": st.sampled_from(["unet++", "unet+", "unet_e", "unet"]),
    "block": st.sampled_from(["plain", "residual", "projected"]),
    "norm": NORMS,
    "nested_norm": st.none() | NORMS,
    "norm_groups": st.sampled_from([None, 1, 2]),
    "activation": st.sampled_from(["relu", "leaky_relu", "silu", "gelu"]),
    "convs_per_node": st.integers(1, 3),
    "conv_bias": st.sampled_from([None, True, False]),
    "dropout": st.sampled_from([0.0, 0.5]),
    "attention": st.sampled_from(["none", "scse"]),
    "down": st.sampled_from(["pool", "conv", "first"]),
    "odd_sizes": st.sampled_from(["ceil", "floor"]),
    "up": st.sampled_from(["transposed", "transposed_wide", "linear", "nearest", "pixel_shuffle"]),
    "up_bias": st.booleans(),
    "up_projection": st.booleans(),
    "align_corners": st.booleans(),
    "concat": st.sampled_from(["skips_up", "up_skips", "up_skips_reversed"]),
    "deep_supervision": st.booleans(),
    "head_kernel": st.sampled_from([1, 3]),
    "head_bias": st.booleans(),
    "fusion": st.sampled_from(["none", "mean", "learned"]),
}


@st.composite
def fields(draw: st.DrawFn) -> dict[str, Any]:
    """Draw fields that make a plan."""
    dims, depth = draw(st.integers(2, 3)), draw(st.integers(1, 3))
    width, step, kernel = (
        st.sampled_from([2, 4, 6]),
        st.tuples(*[st.integers(1, 3)] * dims),
        st.tuples(*[st.sampled_from([1, 3])] * dims),
    )

    def each(entry: st.SearchStrategy[Any], levels: int) -> list[Any]:
        return draw(st.lists(entry, min_size=levels, max_size=levels))

    node = st.sampled_from([f"{i}_{j}" for i in range(depth + 1) for j in range(depth + 1 - i)])
    given = {name: draw(choices) for name, choices in CHOICES.items()}
    given |= {
        "dims": dims,
        "depth": depth,
        "widths": each(width, depth + 1),
        "strides": each(step, depth),
        "kernel_sizes": each(kernel, depth + 1),
    }
    given |= {name: each(width, depth) for name in ("nested_widths", "up_widths") if draw(st.booleans())}
    given |= {"nested_kernel_sizes": each(kernel, depth)} if draw(st.booleans()) else {}
    given |= {"encoder": "resenc", "encoder_blocks": each(st.integers(1, 2), depth + 1)} if draw(st.booleans()) else {}
    given |= {"divisor": draw(step)} if draw(st.booleans()) else {}
    return given | {
        "node_widths": draw(st.dictionaries(node, width, max_size=2)),
        "hidden_fraction": draw(st.sampled_from([1.0, 0.5])) if not given["norm_groups"] else 1.0,
    }


@given(fields=fields(), data=st.data())
@settings(max_examples=30, deadline=None)
def test_any_plan_is_built_prunes_exactly_and_comes_back_from_a_file(
    fields: dict[str, Any], data: st.DataObject
) -> None:
    values = small_plan(fields["dims"]).model_dump()
    plan = Plan.from_dict(
        values | {"model": model_plan(**fields).model_dump(), "predict": values["predict"] | {"depth": fields["depth"]}}
    )
    network = build_from_plan(plan.model)
    x = torch.randn(1, 1, *data.draw(st.tuples(*[st.integers(1, 11)] * plan.model.dims)))
    sum(logits.sum() for logits in network(x, heads=True).logits).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []
    network.eval()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        full = network(x, heads=True)
        assert all(logits.shape == (1, 2, *x.shape[2:]) and logits.isfinite().all() for logits in full.logits)
        save_model(Path(folder) / "model.safetensors", network.state_dict(), plan)
        loaded, header = load_model(Path(folder) / "model.safetensors")
        assert header.plan == plan
        for depth in network.head_depths:
            assert torch.equal(loaded(x, depth=depth), full.at(depth))
            assert torch.equal(loaded.prune(depth)(x), full.at(depth))
            assert build_from_plan(prune_plan(plan.model, depth)).load_state_dict(loaded.prune(depth).state_dict())


@pytest.mark.parametrize("block", ["residual", "projected"])
def test_a_node_that_keeps_what_it_receives_is_trained(block: str) -> None:
    """The shortcut is an identity, and the inputs of a node are separate in training."""
    network = build_model(block=block, depth=1, widths=(8, 16), nested_widths=(16,), up_widths=(8,))
    network(torch.randn(1, 1, 8, 8)).sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers(-1, 9)
    | st.floats(-1, 2)
    | st.sampled_from(["resenc", "unet", "group", "scse", "", "x"])
    | st.lists(st.integers(-1, 6), max_size=4)
)


@given(
    fields=fields(),
    damage=st.dictionaries(st.sampled_from(sorted(ModelPlan.model_fields)), ANYTHING, min_size=1, max_size=2),
)
@settings(max_examples=100, deadline=None)
def test_a_plan_with_any_damage_is_built_or_refused_by_name(fields: dict[str, Any], damage: dict[str, Any]) -> None:
    if isinstance(damage.get("encoder"), str) and damage["encoder"] != "resenc":
        del damage["encoder"]  # the name of a timm model: test_encoders.py
    values = model_plan(**fields).model_dump(mode="json") | damage
    try:
        with torch.device("meta"):
            build_from_plan(validate(ModelPlan, values, "plan.model"))(
                torch.empty(1, values["in_channels"], *(5,) * values["dims"])
            )
    except PlanError as error:
        assert "Change it" in str(error) or "expected" in str(error)


def test_the_arguments_of_the_builder_are_the_fields_of_the_plan() -> None:
    """By name, by type and by default."""
    types, shown = get_type_hints(ModelFields), inspect.signature(build_model).parameters
    assert list(types) == list(shown)
    assert set(types) == {*ModelPlan.model_fields, "first_width"}
    assert set(get_args(types["preset"])) == set(build.PRESETS)
    plan = model_plan().model_dump()
    for name, field in ModelPlan.model_fields.items():
        if name != "preset" and Literal in map(get_origin, (field.annotation, *get_args(field.annotation))):
            assert types[name] == field.annotation, name
        assert (type(None) in get_args(types[name])) == (type(None) in get_args(field.annotation)), name
        follows = name in ("widths", "strides", "kernel_sizes")
        assert shown[name].default == (None if follows else plan[name]), name


def test_help_on_the_builder_tells_every_argument() -> None:
    told = re.findall(r"^ {8}(\w+): \S.*$", build_model.__doc__.partition("Raises")[0], flags=re.MULTILINE)
    assert told == list(inspect.signature(build_model).parameters)


def test_the_examples_of_the_builder_work() -> None:
    examples = doctest.DocTestFinder().find(build.build_model, globs={"build_model": build_model})
    (example,) = examples
    example.examples = [line for line in example.examples if "pretrained" not in line.source]  # needs the network
    assert len(example.examples) > 1
    assert doctest.DocTestRunner().run(example).failed == 0


def test_groups_that_do_not_divide_and_nodes_that_do_not_exist_are_refused() -> None:
    with pytest.raises(PlanError, match="got 3; expected a divisor of 4"):
        build_model(widths=(4, 6), norm_groups=3)
    with pytest.raises(PlanError, match=r"model\.node_widths"):
        build_model(widths=(4, 6), node_widths={"0_2": 4})


def test_a_projected_node_adds_its_convolutions_to_a_projection_of_all_that_it_receives() -> None:
    network = build_model(topology="unet++", depth=2, widths=(4, 6, 8), norm="none")
    block = network.nodes["x_0_2"]
    projection, chain = block.units
    parts = tuple(torch.randn(1, 4, 5, 5) for _ in range(3))
    projected = functional.conv2d(torch.cat(parts, dim=1), projection.conv.weight, projection.conv.bias)
    assert projection.conv.weight.shape == (4, 12, 1, 1)
    (convolution,) = chain.units
    added = convolution.conv(projected)
    torch.testing.assert_close(block(parts), functional.leaky_relu(projected + added))
    assert model_plan().block == "projected"
    assert {model_plan(preset=preset).block for preset in ("paper", "paper_wide_unet")} == {"plain"}


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("classes", "out_channels"),
        ("spatial_dims", "dims"),
        ("encoder_name", "encoder"),
        ("n_channels", "in_channels"),
        ("features", "widths"),
        ("encoder_depth", "depth"),
    ],
)
def test_the_arguments_of_other_libraries_are_known(name: str, own: str) -> None:
    with pytest.raises(UsageError, match=f'"{name}" is `{own}` here'):
        build_model(**{name: 3})  # type: ignore[misc]


def test_the_weights_of_imagenet_have_another_name() -> None:
    with pytest.raises(ModelFileError, match=r"'imagenet' is `model\.encoder_weights=pretrained` here"):
        require_source("imagenet")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"norm": None}, r"^norm: got None; .*`norm=\"none\"`"),
        ({"activation": None}, "^activation: got None; .*leave it out"),
        ({"dims": "2d"}, "Write `dims=2`"),
        ({"up": "bilinear"}, "Write `up='linear'`"),
        ({"norm": "batchnorm"}, "Write `norm='batch'`"),
        ({"norm": "BATCH"}, "Write `norm='batch'`"),
        ({"norm": "InstanceNorm3d"}, "Write `norm='instance'`"),
        ({"activation": "LeakyReLU"}, "Write `activation='leaky_relu'`"),
        ({"heads": True}, r"`net\(x, heads=True\)`"),
        ({"decoder_channels": (8, 8)}, "`node_widths` here"),
    ],
)
def test_what_other_libraries_call_a_value_is_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build_model(**fields)


def test_arguments_have_names() -> None:
    with pytest.raises(UsageError, match="Name it: `encoder='resnet34'`"):
        build_model("resnet34")  # type: ignore[arg-type]
