"""UNet_2Plus of UNet-Version (https://github.com/ZJUGiveLab/UNet-Version)."""

from __future__ import annotations

from unetpp.model.build import model_plan
from unetpp.peers.import_settings import ImportSettings
from unetpp.peers.transfer import Peer, PeerNetwork, Source, name_layers

DEPTH = 4


def read(source: Source, settings: ImportSettings) -> PeerNetwork:
    """Read the network; intensities are required, and the mean of the heads (its `is_ds=True`) is assumed."""
    reason = "its default is_ds=True, the mean of four heads; none: is_ds=False, the deepest head alone"
    fusion = settings.get("model.fusion", "mean", reason, ("mean", "none"))
    in_channels = source.shape("conv00.conv1.0.weight")[1]
    settings.require_normalization(in_channels)
    model = model_plan(
        topology="unet++",
        block="plain",
        in_channels=in_channels,
        out_channels=source.shape("final_4.weight")[0],
        depth=DEPTH,
        widths=[source.shape(f"conv{level}0.conv2.0.weight")[0] for level in range(DEPTH + 1)],
        norm="batch" if source.has("conv00.conv1.1.weight") else "none",
        nested_norm="none",
        activation="relu",
        conv_bias=True,
        up="transposed_wide",
        concat="up_skips",
        deep_supervision=fusion == "mean",
        fusion=fusion,
    )
    names = name_layers(model, _units, "final_{}".format, "up_concat{}{}.up".format)
    unused = {} if fusion == "mean" else {"final_[123].*": "heads that is_ds=False does not use"}
    return PeerNetwork("UNet_2Plus of UNet-Version", model, names, unused, sigmoids=True)


PEER = Peer("unet-version", ("up_concat04.conv.conv1.0.weight",), read)


def _units(level: int, column: int) -> list[tuple[str, str]]:
    block = f"up_concat{level}{column}.conv" if column else f"conv{level}0"
    return [(f"{block}.conv{n}.0", f"{block}.conv{n}.1") for n in (1, 2)]
