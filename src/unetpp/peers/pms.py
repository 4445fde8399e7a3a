"""ResNet34UnetPlus of Pytorch-Medical-Segmentation (https://github.com/MontaEllis/Pytorch-Medical-Segmentation).

Its grid is that of half the resolution: the logits are interpolated to the image. Four heads are summed with learned weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from unetpp.model.build import build_from_plan, make_grid, model_plan
from unetpp.peers.answers import Answers, per_case
from unetpp.peers.transfer import Peer, PeerNetwork, Source, node_names
from unetpp.plan import ModelPlan

DEPTH = 4
WIDTHS, DIAGONALS = (64, 64, 128, 256, 512), (64, 64, 128, 256)
"""Channels of the encoder's levels, and of the nested nodes with i + j = 1..4."""
ENCODER = {"conv1": "firstconv", "bn1": "firstbn", **{f"layer{stage}": f"encoder{stage}" for stage in range(1, 5)}}
"""timm's names of the parts of a ResNet, and the peer's."""
MARK = "decoder0_4.conv3.weight"


def read(source: Source, answers: Answers) -> PeerNetwork:
    """All is in the tensors but the intensities: its training normalises each image."""
    in_channels = source.shape("firstconv.weight")[1]
    normalization = answers.default(
        "data.normalization", per_case(in_channels), "its training takes each image to mean 0 and deviation 1"
    )
    answers.settle(str(source.path))
    nodes = {
        f"{total - column}_{column}": DIAGONALS[total - 1]
        for total in range(1, DEPTH + 1)
        for column in range(1, total + 1)
    }
    model = model_plan(
        block="plain",
        in_channels=in_channels,
        out_channels=source.shape("logit4.weight")[0],
        depth=DEPTH,
        widths=WIDTHS,
        nested_widths=WIDTHS[:-1],
        node_widths=nodes,
        output_stride=2,
        convs_per_node=3,
        hidden_fraction=0.5,
        norm="batch",
        activation="relu",
        up="nearest",
        fusion="learned",
        encoder="resnet34",
    )
    tensors = {**dict(_encoder_names(model)), **dict(_names(model)), "fusion.weights": "mix"}
    return PeerNetwork(
        "ResNet34UnetPlus of Pytorch-Medical-Segmentation",
        model,
        tensors,
        changes={"fusion.weights": lambda mix: mix[1:]},
        sigmoids=True,
        data={"data.normalization": normalization},
    )


PEER = Peer("pms", (MARK,), read)


def _names(model: ModelPlan) -> Iterator[tuple[str, str | None]]:
    for node in make_grid(model).nodes():
        if node[1]:
            block = f"decoder{node[0]}_{node[1]}"
            yield from node_names(
                model, node, [f"{block}.conv{n}" for n in (1, 2, 3)], [f"{block}.norm{n}" for n in (1, 2, 3)]
            )
    for depth in make_grid(model).head_depths(model.deep_supervision):
        yield f"heads.{depth}", f"logit{depth}"


def _encoder_names(model: ModelPlan) -> Iterator[tuple[str, str | None]]:
    with torch.device("meta"):
        names = [name for name in build_from_plan(model).state_dict() if name.startswith("encoder.body.")]
    for name in names:
        part, _, rest = name.removeprefix("encoder.body.").partition(".")
        yield name, f"{ENCODER[part]}.{rest}"
