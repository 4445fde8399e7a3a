"""NestedUNet and UNet of pytorch-nested-unet (https://github.com/4uiiurz1/pytorch-nested-unet); meditorch names its layers alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unetpp.model.build import make_grid, model_plan
from unetpp.peers.answers import IMAGENET_MEAN, IMAGENET_STD, Answers, normalization_hint, scaled
from unetpp.peers.transfer import Peer, PeerNetwork, Source, node_names
from unetpp.plan import ModelPlan

DEPTH = 4


def read(source: Source, answers: Answers) -> PeerNetwork:
    """Everything of the network is in the tensors; its training's intensities and order of colours are taken."""
    nested, supervised = source.has("conv0_1.conv1.weight"), source.has("final1.weight")
    first, head = source.shape("conv0_0.conv1.weight"), source.shape("final4.weight" if supervised else "final.weight")
    data, changes = _data(first[1], answers)
    answers.settle(str(source.path))
    model = model_plan(
        block="plain",
        topology="unet++" if nested else "unet",
        in_channels=first[1],
        out_channels=head[0],
        depth=DEPTH,
        widths=[source.shape(f"conv{level}_0.conv2.weight")[0] for level in range(DEPTH + 1)],
        norm="batch",
        activation="relu",
        conv_bias=True,
        odd_sizes="floor",
        up="linear",
        align_corners=True,
        deep_supervision=supervised,
    )
    title = f"{'NestedUNet' if nested else 'UNet'} of pytorch-nested-unet"
    return PeerNetwork(title, model, dict(_names(model)), changes=changes, sigmoids=True, data=data)


PEER = Peer("nested-unet", ("conv0_4.conv1.weight",), read)


def _data(in_channels: int, answers: Answers) -> tuple[dict[str, Any], dict[str, Any]]:
    """What reached the network in training: OpenCV's blue, green, red, normalised as for ImageNet, and divided by 255 again."""
    if in_channels != 3:
        answers.need("data.normalization", normalization_hint(in_channels))
        return {}, {}
    means, stds = [255 * mean for mean in IMAGENET_MEAN], [255 * 255 * std for std in IMAGENET_STD]
    reason = "as pytorch-nested-unet trains: normalised as for ImageNet, in the order blue, green, red of OpenCV, then divided by 255 once more"
    if answers.is_given("data.channels"):  # the tensors as they are: the user says what each channel is
        return {"data.normalization": answers.default("data.normalization", scaled(means, stds), reason)}, {}
    answers.assume(
        "data.channels", "pytorch-nested-unet trains on blue, green, red; the first convolution was turned round"
    )
    normalization = answers.default("data.normalization", scaled(means[::-1], stds[::-1]), reason)
    return {"data.normalization": normalization}, {"nodes.x_0_0.units.0.conv.weight": lambda weight: weight.flip(1)}


def _names(model: ModelPlan) -> Iterator[tuple[str, str | None]]:
    for node in make_grid(model).nodes():
        block = f"conv{node[0]}_{node[1]}"
        yield from node_names(model, node, [f"{block}.conv{n}" for n in (1, 2)], [f"{block}.bn{n}" for n in (1, 2)])
    for depth in make_grid(model).head_depths(model.deep_supervision):
        yield f"heads.{depth}", f"final{depth}" if model.deep_supervision else "final"
