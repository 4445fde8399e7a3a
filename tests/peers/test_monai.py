"""BasicUNetPlusPlus and BasicUNet of MONAI, both ways."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.peers.reading import PLAIN, differences, read, require, run, trained
from tests.plans import small_plan

from unetpp.deploy.prune import plan_at_size
from unetpp.errors import UsageError
from unetpp.model.build import build_from_plan, model_plan
from unetpp.model.network import UNetPlusPlus
from unetpp.peers import PeerModel, to_monai
from unetpp.plan import Plan

nets = require("monai.networks.nets")

FEATURES = (4, 6, 8, 10, 12, 2)
NORMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "instance": (("instance", {"affine": True}), {}),
    "instance without weights": ("instance", {"model.norm": "instance"}),
    "batch": ("batch", {}),
    "group": (("group", {"num_groups": 2}), {"model.norm": "group", "model.norm_groups": 2}),
    "none": (None, {"model.norm": "none"}),
}
"""MONAI's norm, and the settings that it requires."""
SIZES = {2: (35, 50), 3: (17, 32, 16)}


def normalization(channels: int) -> dict[str, Any]:
    return {"data.normalization": [PLAIN] * channels}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("upsample", ["deconv", "nontrainable", "pixelshuffle"])
@pytest.mark.parametrize("norm", NORMS)
def test_every_head_is_the_same_even_at_odd_sizes(dims: int, upsample: str, norm: str) -> None:
    monais, said = NORMS[norm]
    theirs = trained(
        nets.BasicUNetPlusPlus(dims, 2, 3, features=FEATURES, norm=monais, upsample=upsample, deep_supervision=True)
    )
    ours, plan, ignored = read(theirs.state_dict(), {**said, **normalization(2), "model.deep_supervision": True})
    image = torch.randn(2, 2, *SIZES[dims])
    assert differences(run(theirs, image), run(ours, image, heads=True).logits) == [0.0] * 4
    assert ignored == {}
    assert (plan.model.dims, plan.model.depth, plan.data.num_classes, plan.model.widths) == (dims, 4, 3, FEATURES[:5])


@settings(max_examples=8, deadline=None)
@given(
    features=st.lists(st.integers(2, 9), min_size=6, max_size=6),
    upsample=st.sampled_from(["deconv", "nontrainable", "pixelshuffle"]),
    slope=st.sampled_from([0.0, 0.1, 0.25]),
    bias=st.booleans(),
    size=st.tuples(st.integers(32, 50), st.integers(32, 50)),
)
def test_any_widths_slope_and_size(
    features: list[int], upsample: str, slope: float, bias: bool, size: tuple[int, int]
) -> None:
    act = ("leakyrelu", {"negative_slope": slope})
    theirs = trained(nets.BasicUNetPlusPlus(2, 1, 2, features=features, act=act, bias=bias, upsample=upsample))
    ours, _, _ = read(theirs.state_dict(), {**normalization(1), "model.leaky_slope": slope})
    image = torch.randn(1, 1, *size)
    assert differences(run(theirs, image), [run(ours, image)]) == [0.0]


@pytest.mark.parametrize("upsample", ["deconv", "nontrainable", "pixelshuffle"])
def test_the_u_net_is_the_same(upsample: str) -> None:
    theirs = trained(nets.BasicUNet(2, 1, 2, features=FEATURES, upsample=upsample, act="relu"))
    ours, plan, ignored = read(theirs.state_dict(), {**normalization(1), "model.activation": "relu"})
    image = torch.randn(1, 1, 35, 50)
    assert differences([run(theirs, image)], [run(ours, image)]) == [0.0]
    assert (plan.model.topology, ignored) == ("unet", {})


def test_heads_that_were_not_trained_are_ignored_by_name() -> None:
    theirs = trained(nets.BasicUNetPlusPlus(2, 1, 2, features=FEATURES))
    ours, plan, ignored = read(theirs.state_dict(), normalization(1))
    assert set(ignored) == {f"final_conv_0_{depth}.{last}" for depth in (1, 2, 3) for last in ("weight", "bias")}
    assert ours.head_depths == (4,)
    assert not plan.model.deep_supervision


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_an_imported_network_is_pruned_like_ours(depth: int) -> None:
    theirs = trained(nets.BasicUNetPlusPlus(2, 1, 2, features=FEATURES, deep_supervision=True))
    ours, plan, _ = read(theirs.state_dict(), {**normalization(1), "model.deep_supervision": True})
    image = torch.randn(1, 1, 37, 33)
    smaller = ours.prune(depth)
    assert differences([run(theirs, image)[depth - 1]], [run(smaller, image)]) == [0.0]
    planned = build_from_plan(plan_at_size(plan, depth).model)
    planned.load_state_dict(smaller.state_dict())
    assert sum(weight.numel() for weight in smaller.parameters()) < sum(weight.numel() for weight in ours.parameters())


def test_one_error_names_all_missing_settings() -> None:
    silent = nets.BasicUNetPlusPlus(2, 1, 2, features=FEATURES, norm="instance").state_dict()
    with pytest.raises(UsageError, match=r"(?s)`model\.norm=\.\.\.` .*`data\.normalization=\.\.\.` "):
        read(silent)
    with pytest.raises(UsageError, match=r"`model\.norm_groups=\.\.\.` "):
        read(
            nets.BasicUNetPlusPlus(2, 1, 2, features=FEATURES).state_dict(), {**normalization(1), "model.norm": "group"}
        )


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"model.norm": "batch"}, r"got 'batch'; expected one of \['instance', 'group'\]"),
        (
            {"model.widths": [1, 2, 3, 4, 5], "model.depth": 3},
            r"model\.widths: got \[1, 2, 3, 4, 5\]; expected \[4, 6, 8, 10, 12\], .* model\.depth: got 3; expected 4",
        ),
        ({"model.wodths": [1]}, "Did you mean model.widths"),
        ({"data.classes": ["a", "b", "c", "d"]}, "got 4 names; expected 2 or 3"),
        ({"data.channels": ["a", "b"]}, "got 2 names; expected 1"),
        (
            {"data.normalization": [PLAIN, PLAIN]},
            r"data.normalization: got 2 x \{.*\}; expected one entry for each",
        ),
    ],
)
def test_wrong_settings_are_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(nets.BasicUNetPlusPlus(2, 1, 2, features=FEATURES).state_dict(), {**normalization(1), **said})


def test_an_activation_with_weights_is_refused_by_name() -> None:
    with pytest.raises(Exception, match=r"conv_0_0\.conv_0\.adn\.A\.weight is unknown"):
        read(nets.BasicUNetPlusPlus(2, 1, 2, features=FEATURES, act="prelu").state_dict(), normalization(1))


@pytest.mark.parametrize("upsample", ["deconv", "nontrainable", "pixelshuffle"])
@pytest.mark.parametrize("norm", [name for name in NORMS if name != "instance without weights"])
def test_round_trip(upsample: str, norm: str) -> None:
    monais, said = NORMS[norm]
    theirs = trained(
        nets.BasicUNetPlusPlus(2, 1, 2, features=FEATURES, norm=monais, upsample=upsample, deep_supervision=True)
    )
    ours, plan, _ = read(theirs.state_dict(), {**said, **normalization(1), "model.deep_supervision": True})
    peer = to_monai(ours, plan)
    assert peer.unused == ()
    assert all(torch.equal(peer.state_dict[name], tensor) for name, tensor in theirs.state_dict().items())
    assert compared(peer, ours, torch.randn(1, 1, 35, 50)) == [0.0] * 4


@pytest.mark.parametrize(
    "fields",
    [
        {"topology": "unet++"},
        {"topology": "unet", "dims": 3},
        {"topology": "unet++", "deep_supervision": False, "norm": "layer", "activation": "gelu"},
    ],
)
def test_a_network_of_ours_becomes_monais(fields: dict[str, Any]) -> None:
    dims = fields.get("dims", 2)
    monais = {
        "block": "plain",
        "norm": "instance",
        "odd_sizes": "floor",
        "widths": (4, 6, 8, 10, 12),
        "up_widths": (6, 4, 5, 6),
        "depth": 4,
    }
    plan = small_plan(dims=dims, widths=(4, 6, 8, 10, 12))
    plan = plan.model_copy(update={"model": model_plan(**{**monais, **fields})})
    ours = trained(build_from_plan(plan.model))
    assert isinstance(ours, UNetPlusPlus)
    peer = to_monai(ours, plan)
    assert len(peer.unused) == (0 if plan.model.deep_supervision else 6)
    assert max(compared(peer, ours, torch.randn(1, 1, *SIZES[dims]))) < 1e-6


def test_fields_that_do_not_fit_are_named() -> None:
    plan = small_plan(widths=(4, 6, 8, 10, 12), topology="unet+", node_widths={"1_2": 7})
    with pytest.raises(UsageError) as error:
        to_monai(build_from_plan(plan.model), plan)
    for text in (
        "model.topology is 'unet+'",
        "model.norm is 'group', there it is 'instance'",
        "model.odd_sizes is 'ceil'",
        "model.block is 'projected', there it is 'plain'",
        "model.up_widths",
        "model.widths of X[1,2] is 7, there it is 6",
    ):
        assert text in str(error.value)
    shallow = small_plan()
    with pytest.raises(UsageError, match=r"\(model.depth is 2, there it is 4\)"):
        to_monai(build_from_plan(shallow.model), shallow)


def compared(peer: PeerModel, ours: UNetPlusPlus, image: torch.Tensor) -> list[float]:
    network = getattr(nets, peer.constructor.rpartition(".")[2])(**peer.arguments).eval()
    network.load_state_dict(peer.state_dict, strict=True)
    theirs = run(network, image)
    return differences(theirs if isinstance(theirs, list) else [theirs], run(ours, image, heads=True).logits)


def test_plan_survives_json() -> None:
    _, plan, _ = read(nets.BasicUNetPlusPlus(3, 1, 1, features=FEATURES).state_dict(), normalization(1))
    assert Plan.from_json(plan.to_json()) == plan
    assert plan.data.classes == ("background", "foreground")
