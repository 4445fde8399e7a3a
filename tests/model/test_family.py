"""A covering design over every field of `plan.model`, in which each pair of values meets at least once.

What must hold for each member of the family: every weight gets a gradient, each head that is predicted is trained, each
node concatenates what the papers say, pruning and checkpointing change nothing, and any size works.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from unetpp.errors import PlanError, UsageError
from unetpp.model.build import build_from_plan, build_model, model_plan
from unetpp.model.deferred import Parts, concatenate
from unetpp.model.network import UNetPlusPlus
from unetpp.model.pruned_plan import prune_plan
from unetpp.plan import ModelPlan

DIALS: dict[str, tuple[Any, ...]] = {
    "topology": ("unet++", "unet+", "unet_e", "unet"),
    "dims": (2, 3),
    "depth": (1, 2, 3),
    "encoder": (None, None, "resenc"),
    "size": ("one voxel", "odd", "even"),
    "batch": (1, 2),
    "strides": (2, 3, "uneven"),
    "kernels": (3, 5, "uneven"),
    "block": ("plain", "residual", "projected"),
    "norm": ("batch", "instance", "group", "layer", "none"),
    "nested_norm": (None, "batch", "none"),
    "norm_groups": (None, 2),
    "activation": ("relu", "leaky_relu", "silu", "gelu"),
    "convs_per_node": (1, 2, 3),
    "hidden_fraction": (1.0, 0.5),
    "conv_bias": (None, True, False),
    "dropout": (0.0, 0.3),
    "attention": ("none", "scse"),
    "down": ("pool", "conv", "first"),
    "odd_sizes": ("ceil", "floor"),
    "up": (
        "transposed",
        "transposed_wide",
        "pixel_shuffle",
        ("linear", "aligned"),
        ("linear", "projected"),
        ("nearest",),
        ("nearest", "projected"),
        ("cubic",),  # linear in 3D, which has no other
    ),
    "up_bias": (True, False),
    "up_widths": (False, True),
    "nested_widths": (False, True),
    "node_widths": (False, True),
    "concat": ("skips_up", "up_skips", "up_skips_reversed"),
    "deep_supervision": (True, False),
    "head_kernel": (1, 3),
    "head_bias": (True, False),
    "fusion": ("none", "mean", "learned"),
    "divisor": (False, True),
}

TIMM_DIALS: dict[str, tuple[Any, ...]] = {
    "topology": DIALS["topology"],
    "dims": (2,),
    "depth": (2, 3),
    # their first feature maps are 1/2 and 1/4 of the image; with an output stride of 2, "half", levels move up by one
    "timm": (
        ("test_resnet",),
        ("test_resnet", "bare"),
        ("test_resnet", "half"),
        ("test_convnext",),
        ("test_convnext", "bare"),
    ),
    "size": ("odd", "even"),
    "batch": (1, 2),
    "block": DIALS["block"],
    "norm": ("batch", "instance", "group"),
    "up": ("transposed", "linear", "nearest", "pixel_shuffle"),
    "attention": DIALS["attention"],
    "concat": DIALS["concat"],
    "deep_supervision": DIALS["deep_supervision"],
    "fusion": DIALS["fusion"],
}


def covering(dials: Mapping[str, Sequence[Any]], seed: int = 0, candidates: int = 12) -> list[dict[str, Any]]:
    """Make rows with every pair of values of every two fields: greedily, the best of some candidates at a time."""
    chosen, names = random.Random(seed), list(dials)
    missing = {
        ((a, i), (b, j))
        for a, b in itertools.combinations(range(len(names)), 2)
        for i in range(len(dials[names[a]]))
        for j in range(len(dials[names[b]]))
    }
    rows: list[dict[str, Any]] = []
    while missing:
        first = min(missing) if len(rows) % 2 else max(missing)
        tried = [_filled(dict(first), names, dials, missing, chosen) for _ in range(candidates)]
        best = max(tried, key=lambda row: len(_pairs(row) & missing))
        missing -= _pairs(best)
        rows.append({names[place]: dials[names[place]][value] for place, value in best.items()})
    return rows


def _filled(
    row: dict[int, int],
    names: Sequence[str],
    dials: Mapping[str, Sequence[Any]],
    missing: set[Any],
    chosen: random.Random,
) -> dict[int, int]:
    open_places = [place for place in range(len(names)) if place not in row]
    chosen.shuffle(open_places)
    for place in open_places:
        values = range(len(dials[names[place]]))
        gains = [
            sum(tuple(sorted([(place, value), pair])) in missing for pair in row.items()) + chosen.random()
            for value in values
        ]
        row[place] = gains.index(max(gains))
    return row


def _pairs(row: Mapping[int, int]) -> set[Any]:
    return set(itertools.combinations(sorted(row.items()), 2))


def plan_of(row: Mapping[str, Any]) -> ModelPlan:
    """Make the plan of a row, with the fields that depend on depth and dims."""
    depth, dims = row["depth"], row["dims"]
    plain = {name: row[name] for name in ModelPlan.model_fields if name in row} | {"in_channels": 2, "out_channels": 3}
    if "timm" in row:
        return model_plan(
            **plain,
            encoder=row["timm"][0],
            first_width=4,
            stem="bare" not in row["timm"],
            output_stride=2 if "half" in row["timm"] else 1,
        )
    up, *extras = row["up"] if isinstance(row["up"], tuple) else (row["up"],)
    step = {2: (2,) * dims, 3: (3,) * dims, "uneven": (1, *(2,) * (dims - 1))}[row["strides"]]
    kernel = {3: (3,) * dims, 5: (5,) * dims, "uneven": (1, *(3,) * (dims - 1))}[row["kernels"]]
    return model_plan(
        **plain
        | {
            "widths": (4, 8, 12, 16)[: depth + 1],
            "strides": [step, (2,) * dims, (2,) * dims][:depth],
            "kernel_sizes": [kernel] * (depth + 1),
            "up": "linear" if (up, dims) == ("cubic", 3) else up,
            "up_projection": "projected" in extras,
            "align_corners": "aligned" in extras,
            "up_widths": (3, 5, 7)[:depth] if row["up_widths"] else None,
            "nested_widths": (4, 4, 8)[:depth] if row["nested_widths"] else None,
            "node_widths": {"0_1": 12, "1_0": 4} if row["node_widths"] else {},
            "encoder_blocks": (2, 1, 2, 1)[: depth + 1] if row["encoder"] else None,
            "divisor": (4,) * dims if row["divisor"] else None,
        }
    )


def image_of(row: Mapping[str, Any]) -> Tensor:
    size = {"one voxel": (1, 1, 1), "odd": (5, 9, 7), "even": (8, 4, 8)}[row["size"]]
    return torch.randn(row["batch"], 2, *size[: row["dims"]], generator=torch.Generator().manual_seed(0))


def network_of(row: Mapping[str, Any]) -> UNetPlusPlus:
    torch.manual_seed(0)
    return build_from_plan(plan_of(row))


def bare_levels(row: Mapping[str, Any]) -> int:
    """Count the levels without X[i, 0]: an encoder without a stem starts below them."""
    if "bare" not in row.get("timm", ()):
        return 0
    return {"test_resnet": 1, "test_convnext": 2}[row["timm"][0]]


def loss_of(network: UNetPlusPlus, x: Tensor) -> Tensor:
    torch.manual_seed(0)  # dropout
    return torch.stack([(logits + 1).square().mean() for logits in network(x, heads=True).logits]).sum()


def params(dials: Mapping[str, Sequence[Any]], *names: str, marks: Sequence[Any] = ()) -> list[Any]:
    rows = enumerate(covering(dials))
    return [
        pytest.param(row, id="-".join([str(number), *(str(row[name]) for name in names)]), marks=marks)
        for number, row in rows
    ]


try:
    timm_is_here = find_spec("timm") is not None and bool(import_module("timm"))
except (ImportError, RuntimeError):  # a torchvision that does not fit torch
    timm_is_here = False
ROWS = params(DIALS, "topology", "dims", "block", "norm")
ROWS += params(
    TIMM_DIALS, "topology", "timm", marks=[pytest.mark.skipif(not timm_is_here, reason="timm is not installed")]
)


@pytest.mark.parametrize("row", ROWS)
def test_every_weight_gets_a_gradient_and_every_head_is_trained(row: dict[str, Any]) -> None:
    network, x = network_of(row), image_of(row)
    loss_of(network, x).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []
    single = row["topology"] == "unet" or not row["deep_supervision"]
    assert network.head_depths == (
        (row["depth"],) if single else tuple(range(max(1, bare_levels(row)), row["depth"] + 1))
    )
    if row["size"] != "one voxel":  # of which a normalisation may leave nothing
        assert all(head.weight.grad.any() for head in network.heads.values())


@pytest.mark.parametrize("row", ROWS)
def test_each_node_concatenates_what_the_papers_say(row: dict[str, Any]) -> None:
    network, x = network_of(row).eval(), image_of(row)
    received: dict[tuple[int, int], Parts] = {}
    given: dict[tuple[int, int], Tensor] = {}
    brought_up: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def seen(node: tuple[int, int], concatenated: Parts, output: Tensor) -> None:
        received[node], given[node] = concatenated, output

    if network.encoder is not None:
        network.encoder.register_forward_hook(
            lambda _, args, features: given.update({(level, 0): feature for level, feature in features.items()})
        )
    for name, block in network.nodes.items():
        node = tuple(map(int, name.split("_")[1:]))
        block.register_forward_hook(lambda _, args, output, node=node: seen(node, args[0], output))
        if node[1]:
            network.ups[name].register_forward_hook(
                lambda _, args, output, node=node: brought_up.update({node: (args[0], output)})
            )
    with torch.no_grad():
        network(x, heads=True)
    depth = row["depth"]
    bare, one_head = bare_levels(row), row["topology"] == "unet" or not row["deep_supervision"]
    one_decoder = row["topology"] == "unet" or (row["topology"] == "unet_e" and one_head)
    expected = {(i, j) for i in range(depth + 1) for j in range(depth + 1 - i) if i + j >= bare}
    if bare:  # where there are no skips, a node hangs on its diagonal alone
        expected = {(i, j) for i, j in expected if i >= bare or (j > 0 and (i + j == depth or not one_head))}
    assert set(given) == {(i, j) for i, j in expected if j == 0 or i + j == depth or not one_decoder}
    for (i, j), concatenated in received.items():
        if j == 0:
            continue
        below, up = brought_up[i, j]
        assert below is given[i + 1, j - 1]
        columns = (
            {"unet++": list(range(j)), "unet+": [j - 1], "unet_e": [0], "unet": [0]}[row["topology"]]
            if i >= bare
            else []
        )
        skips = [given[i, k] for k in (reversed(columns) if row["concat"] == "up_skips_reversed" else columns)]
        up_first = row["concat"] != "skips_up"
        widths = (
            [up.shape[1], *(skip.shape[1] for skip in skips)]
            if up_first
            else [*(skip.shape[1] for skip in skips), up.shape[1]]
        )
        parts = list(concatenate(concatenated).split(widths, dim=1))
        part_up = parts.pop(0 if up_first else -1)
        assert all(torch.equal(part, skip) for part, skip in zip(parts, skips, strict=True))
        assert all(
            abs(have - wanted) < 3 for have, wanted in zip(up.shape[2:], part_up.shape[2:], strict=True)
        )  # less than a step
        common = (
            ...,
            *(slice(min(have, wanted)) for have, wanted in zip(up.shape[2:], part_up.shape[2:], strict=True)),
        )
        assert torch.equal(part_up[common], up[common])


@pytest.mark.parametrize("row", ROWS)
def test_pruning_changes_nothing_and_its_plan_rebuilds_it(row: dict[str, Any]) -> None:
    plan, network, x = plan_of(row), network_of(row), image_of(row)
    loss_of(network, x).backward()  # moves the statistics of batch normalisations
    network.eval()
    with torch.no_grad():
        full = network(x, heads=True)
        for depth in network.head_depths:
            assert torch.equal(network(x, depth=depth), full.at(depth))
            for keep_heads in (False, True):
                pruned = network.prune(depth, keep_heads=keep_heads)
                assert torch.equal(pruned(x), full.at(depth))
                if keep_heads:
                    kept = pruned(x, heads=True)
                    assert kept.depths == tuple(d for d in network.head_depths if d <= depth)
                    assert all(torch.equal(kept.at(d), full.at(d)) for d in kept.depths)
                rebuilt = build_from_plan(prune_plan(plan, depth, keep_heads=keep_heads)).eval()
                rebuilt.load_state_dict(pruned.state_dict())
                assert torch.equal(rebuilt(x), full.at(depth))


@pytest.mark.parametrize("what", [True, "cheap"])
@pytest.mark.parametrize("row", ROWS)
def test_checkpointing_changes_nothing(row: dict[str, Any], what: bool | str) -> None:
    kept, again, x = network_of(row), network_of(row), image_of(row)
    again.checkpointing = what
    losses = [loss_of(network, x) for network in (kept, again)]
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    for (name, weight), other in zip(kept.named_parameters(), again.parameters(), strict=True):
        if what == "cheap":  # gradients of a node that has several consumers are added in another order
            torch.testing.assert_close(other.grad, weight.grad, rtol=1e-4, atol=1e-5)
        else:
            assert torch.equal(weight.grad, other.grad), name
    for (name, statistic), other in zip(kept.named_buffers(), again.buffers(), strict=True):
        assert torch.equal(statistic, other), name


def test_checkpointing_in_training_arithmetic_survives_pruning_and_a_second_pass() -> None:
    kept, again, x = (
        *(build_model(topology="unet++", widths=(8, 16, 32), block="plain", norm="batch").train() for _ in range(2)),
        torch.randn(2, 1, 32, 32),
    )
    again.load_state_dict(kept.state_dict())
    again.checkpointing = "cheap"
    grads = []
    for network in (kept.prune(1, keep_heads=True), again.prune(1, keep_heads=True)):
        network.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(network, x.contiguous(memory_format=torch.channels_last))
        loss.backward(retain_graph=True)
        loss.backward()
        grads.append([weight.grad for weight in network.parameters()])
    assert again.prune(1).checkpointing == "cheap"
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(other, one, rtol=2e-2, atol=1e-3)
    with pytest.raises(UsageError, match="checkpointing: got 'Cheap'"):
        again.checkpointing = "Cheap"


@pytest.mark.parametrize(
    "fields",
    [
        {"block": "plain", "norm": "batch"},
        {"block": "residual", "up": "linear", "dropout": 0.2},
        {"dims": 3, "block": "plain"},
    ],
)
def test_cheap_checkpointing_keeps_less(fields: dict[str, Any]) -> None:
    kept = {}
    for what in (False, "cheap"):
        torch.manual_seed(0)
        network = build_model(**{"topology": "unet++", "widths": (8, 16, 32), **fields}).train()
        network.checkpointing = what
        kept[what] = _bytes_kept(network, torch.randn(2, 1, *[32] * fields.get("dims", 2)))
    assert kept["cheap"] < 0.75 * kept[False]


def _bytes_kept(network: UNetPlusPlus, x: Tensor) -> int:
    """Count the bytes of all tensors stored for the backward pass."""
    seen: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = loss_of(network, x)
    assert loss.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in seen.values())


@pytest.mark.skipif(not timm_is_here, reason="timm is not installed")
def test_a_first_node_of_our_own_has_no_output_stride() -> None:
    with pytest.raises(PlanError, match=r"model\.output_stride: got 2; expected 1"):
        build_model(encoder="test_convnext", output_stride=2)
