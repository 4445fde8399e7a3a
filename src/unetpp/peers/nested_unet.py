"""NestedUNet and UNet of pytorch-nested-unet (https://github.com/4uiiurz1/pytorch-nested-unet).

Networks of meditorch have the same names of layers.
"""

from __future__ import annotations

from typing import Any

from unetpp.model.build import model_plan
from unetpp.peers.import_settings import IMAGENET_MEAN, IMAGENET_STD, ImportSettings, normalize_with
from unetpp.peers.transfer import Peer, PeerNetwork, Source, name_layers

DEPTH = 4


def read(source: Source, settings: ImportSettings) -> PeerNetwork:
    """Read both networks.

    The tensors determine the network. Intensities and order of the colors are assumed to be those of the library's
    training for images of three channels, and required for others.
    """
    nested, supervised = source.has("conv0_1.conv1.weight"), source.has("final1.weight")
    in_channels, head = source.shape("conv0_0.conv1.weight")[1], "final{}" if supervised else "final"
    data, changes = _read_data(in_channels, settings)
    model = model_plan(
        block="plain",
        topology="unet++" if nested else "unet",
        in_channels=in_channels,
        out_channels=source.shape(f"{head.format(DEPTH)}.weight")[0],
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
    return PeerNetwork(title, model, name_layers(model, _units, head.format), changes=changes, sigmoids=True, data=data)


PEER = Peer("nested-unet", ("conv0_4.conv1.weight",), read)


def _read_data(in_channels: int, settings: ImportSettings) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return fields of the plan, and conversions of tensors.

    The library reads images with OpenCV (blue, green, red), normalizes as for ImageNet, and divides by 255 again.
    """
    if in_channels != 3:
        settings.require_normalization(in_channels)
        return {}, {}
    order, changes = 1, {}
    if "data.channels" not in settings.given:  # otherwise the user names the channels in the order of the tensors
        reason = "pytorch-nested-unet trains on blue, green, red; the first convolution's inputs were reversed"
        settings.assume("data.channels", reason)
        order, changes = -1, {"nodes.x_0_0.units.0.conv.weight": lambda weight: weight.flip(1)}
    means, stds = [255 * mean for mean in IMAGENET_MEAN], [255 * 255 * std for std in IMAGENET_STD]
    reason = (
        "as pytorch-nested-unet trains: normalized as for ImageNet, in the order blue, green, red of OpenCV, "
        "then divided by 255 once more"
    )
    normalization = normalize_with(means[::order], stds[::order])
    return {"data.normalization": settings.get("data.normalization", normalization, reason)}, changes


def _units(level: int, column: int) -> list[tuple[str, str]]:
    return [(f"conv{level}_{column}.conv{n}", f"conv{level}_{column}.bn{n}") for n in (1, 2)]
