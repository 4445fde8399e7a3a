"""UNet_2Plus of UNet-Version (https://github.com/ZJUGiveLab/UNet-Version)."""

from __future__ import annotations

from collections.abc import Iterator

from unetpp.model.build import make_grid, model_plan
from unetpp.peers.answers import Answers, normalization_hint
from unetpp.peers.transfer import Peer, PeerNetwork, Source, node_names
from unetpp.plan import ModelPlan

DEPTH = 4


def read(source: Source, answers: Answers) -> PeerNetwork:
    """Asked: the intensities; by default the heads are averaged, as with its is_ds=True."""
    fusion = answers.default(
        "model.fusion",
        "mean",
        "its default is_ds=True, the mean of four heads; none: is_ds=False, the deepest head alone",
        ("mean", "none"),
    )
    first = source.shape("conv00.conv1.0.weight")
    answers.need("data.normalization", normalization_hint(first[1]))
    answers.settle(str(source.path))
    normed = source.has("conv00.conv1.1.weight")
    model = model_plan(
        block="plain",
        in_channels=first[1],
        out_channels=source.shape("final_4.weight")[0],
        depth=DEPTH,
        widths=[source.shape(f"conv{level}0.conv2.0.weight")[0] for level in range(DEPTH + 1)],
        norm="batch" if normed else "none",
        nested_norm="none",
        activation="relu",
        conv_bias=True,
        up="transposed_wide",
        concat="up_skips",
        deep_supervision=fusion == "mean",
        fusion=fusion,
    )
    unused = {} if fusion == "mean" else {"final_[123].*": "heads that is_ds=False does not use"}
    return PeerNetwork("UNet_2Plus of UNet-Version", model, dict(_names(model)), unused, sigmoids=True)


PEER = Peer("unet-version", ("up_concat04.conv.conv1.0.weight",), read)


def _names(model: ModelPlan) -> Iterator[tuple[str, str | None]]:
    for level, column in make_grid(model).nodes():
        block = f"up_concat{level}{column}" if column else f"conv{level}0"
        convs = f"{block}.conv" if column else block
        yield from node_names(
            model, (level, column), [f"{convs}.conv{n}.0" for n in (1, 2)], [f"{convs}.conv{n}.1" for n in (1, 2)]
        )
        if column:
            yield f"ups.x_{level}_{column}", f"{block}.up"
    for depth in make_grid(model).head_depths(model.deep_supervision):
        yield f"heads.{depth}", f"final_{depth}"
