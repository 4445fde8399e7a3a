"""ResNet34UnetPlus of Pytorch-Medical-Segmentation (https://github.com/MontaEllis/Pytorch-Medical-Segmentation).

Its grid starts at half the resolution, and the logits are interpolated to the size of the image. Four heads are summed
with learned weights.
"""

from __future__ import annotations

import torch

from unetpp.model.build import build_from_plan, model_plan
from unetpp.peers.import_settings import ImportSettings
from unetpp.peers.transfer import Peer, PeerNetwork, Source, name_layers
from unetpp.plan import ModelPlan, Normalization

WIDTHS, DIAGONALS = (64, 64, 128, 256, 512), (64, 64, 128, 256)
"""Channels of the encoder's levels, and of the nested nodes with i + j = 1..4."""
ENCODER = {"conv1": "firstconv", "bn1": "firstbn", **{f"layer{stage}": f"encoder{stage}" for stage in range(1, 5)}}
"""timm's names of the parts of a ResNet -> the peer's."""


def read(source: Source, settings: ImportSettings) -> PeerNetwork:
    """Read the network; the tensors determine all of it, and intensities are assumed to be normalized per image."""
    in_channels = source.shape("firstconv.weight")[1]
    reason = "its training normalizes each image to mean 0 and standard deviation 1"
    normalization = settings.get("data.normalization", [Normalization()] * in_channels, reason)
    model = model_plan(
        topology="unet++",
        block="plain",
        in_channels=in_channels,
        out_channels=source.shape("logit4.weight")[0],
        depth=len(DIAGONALS),
        widths=WIDTHS,
        nested_widths=WIDTHS[:-1],
        node_widths={f"{n - j}_{j}": width for n, width in enumerate(DIAGONALS, 1) for j in range(1, n + 1)},
        output_stride=2,
        convs_per_node=3,
        hidden_fraction=0.5,
        norm="batch",
        activation="relu",
        up="nearest",
        fusion="learned",
        encoder="resnet34",
    )
    names = name_layers(model, _units, "logit{}".format) | _name_encoder(model) | {"fusion.weights": "mix"}
    return PeerNetwork(
        "ResNet34UnetPlus of Pytorch-Medical-Segmentation",
        model,
        names,
        changes={"fusion.weights": lambda mix: mix[1:]},
        sigmoids=True,
        data={"data.normalization": normalization},
    )


PEER = Peer("pms", ("decoder0_4.conv3.weight",), read)


def _units(level: int, column: int) -> list[tuple[str, str]]:
    return [(f"decoder{level}_{column}.conv{n}", f"decoder{level}_{column}.norm{n}") for n in (1, 2, 3)]


def _name_encoder(model: ModelPlan) -> dict[str, str | None]:
    with torch.device("meta"):
        ours = [name.split(".", 3) for name in build_from_plan(model).state_dict() if name.startswith("encoder.body.")]
    return {f"encoder.body.{part}.{last}": f"{ENCODER[part]}.{last}" for _, _, part, last in ours}
