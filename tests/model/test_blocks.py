"""Layers of the nodes: normalization of a single voxel, pooling of any size, nnU-Net's residual stages and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unetpp.errors import ModelFileError, PlanError
from unetpp.model.blocks import (
    CONV,
    BatchNorm,
    FrozenStatistics,
    GroupNorm,
    Pooling,
    crop_or_pad,
    make_norm,
)
from unetpp.model.build import build_from_plan, build_model, model_plan
from unetpp.model.network import UNetPlusPlus
from unetpp.model.selfsupervised import load_encoder

INSTANCE_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
WIDTHS, BLOCKS = (4, 6, 8), (1, 2, 2)


class NnUnetUnit(nn.Module):
    """Convolution, instance norm, LeakyReLU, under the names of nnU-Net; the same parts are there twice."""

    def __init__(
        self,
        dims: int,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: Any = 1,
        bias: bool = True,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.conv = CONV[dims](inputs, outputs, kernel, stride, padding=kernel // 2, bias=bias)
        self.norm = INSTANCE_NORM[dims](outputs, affine=True)
        self.all_modules = nn.Sequential(self.conv, self.norm, *([nn.LeakyReLU()] if activation else []))

    def forward(self, x: Tensor) -> Tensor:
        return self.all_modules(x)


class NnUnetBlock(nn.Module):
    """Residual block of nnU-Net: average pooling in the shortcut for a stride, a 1x1 convolution for another width."""

    def __init__(self, dims: int, inputs: int, outputs: int, stride: Any) -> None:
        super().__init__()
        moves = max(stride) > 1
        self.conv1 = NnUnetUnit(dims, inputs, outputs, 3, stride)
        self.conv2 = NnUnetUnit(dims, outputs, outputs, 3, activation=False)
        parts = ([POOL[dims](stride, stride)] if moves else []) + (
            [NnUnetUnit(dims, inputs, outputs, 1, bias=False, activation=False)] if inputs != outputs else []
        )
        self.skip = nn.Sequential(*parts) if parts else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.leaky_relu(self.conv2(self.conv1(x)) + self.skip(x))


class NnUnetEncoder(nn.Module):
    def __init__(self, dims: int, channels: int, strides: Any) -> None:
        super().__init__()
        self.stem = nn.Module()
        self.stem.convs = nn.Sequential(NnUnetUnit(dims, channels, WIDTHS[0], 3))
        self.stages = nn.Sequential()
        for level, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS, strict=True)):
            stage = nn.Module()
            inputs, one = WIDTHS[max(0, level - 1)], (1,) * dims
            stage.blocks = nn.Sequential(
                *(
                    NnUnetBlock(dims, width if n else inputs, width, strides[level - 1] if level and n == 0 else one)
                    for n in range(blocks)
                )
            )
            self.stages.append(stage)

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = [self.stem.convs(x)]
        for stage in self.stages:
            outputs.append(stage.blocks(outputs[-1]))
        return outputs[1:]


def peer(dims: int = 3, channels: int = 1, strides: Any = None) -> nn.Module:
    """A checkpoint's network: the encoder, once more in the decoder, and a head."""
    torch.manual_seed(1)
    network = nn.Module()
    network.encoder = NnUnetEncoder(dims, channels, strides or ((2,) * dims,) * 2)
    for weight in network.parameters():  # so that no bias or norm is as it starts
        nn.init.normal_(weight, std=0.5)
    network.decoder = nn.Module()
    network.decoder.encoder = network.encoder
    network.decoder.seg_layers = nn.ModuleList([CONV[dims](4, 2, 1)])
    return network


def ours(dims: int = 3, channels: int = 1, **fields: Any) -> UNetPlusPlus:
    return build_model(
        **{
            "preset": "resenc",
            "dims": dims,
            "in_channels": channels,
            "widths": WIDTHS,
            "encoder_blocks": BLOCKS,
            **fields,
        }
    ).eval()


def stages(network: UNetPlusPlus, x: Tensor) -> list[Tensor]:
    outputs = []
    for level in range(len(WIDTHS)):
        outputs.append(network.nodes[f"x_{level}_0"](outputs[-1] if level else x))
    return outputs


@pytest.mark.parametrize(
    ("dims", "strides"), [(2, ((2, 2), (2, 2))), (3, ((2, 2, 2), (2, 2, 2))), (3, ((1, 2, 2), (2, 2, 2)))]
)
def test_resenc_computes_what_nnunets_encoder_does(tmp_path: Path, dims: int, strides: Any) -> None:
    theirs, network, path = peer(dims, 2, strides), ours(dims, 2, strides=strides), tmp_path / "checkpoint_final.pth"
    torch.save({"network_weights": theirs.state_dict()}, path)
    transfer = load_encoder(network, path)
    assert (transfer.adapted, transfer.misfits, transfer.absent, transfer.unplaced) == ((), {}, (), ())
    assert set(transfer.taken) == {
        name for name in network.state_dict() if name.startswith(("nodes.x_0_0", "nodes.x_1_0", "nodes.x_2_0"))
    }
    x = torch.randn(2, 2, *(8, 12, 16)[:dims])
    with torch.no_grad():
        for expected, got in zip(theirs.encoder(x), stages(network, x), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("dims", "step"), [(2, 2), (3, (1, 2, 2))])
def test_resenc_computes_what_the_package_of_nnunet_does(tmp_path: Path, dims: int, step: Any) -> None:
    encoders = pytest.importorskip("dynamic_network_architectures.building_blocks.residual_encoders")
    strides = (1, step, 2)
    theirs = nn.Module()
    theirs.encoder = encoders.ResidualEncoder(
        2,
        3,
        WIDTHS,
        {2: nn.Conv2d, 3: nn.Conv3d}[dims],
        3,
        strides,
        BLOCKS,
        True,
        INSTANCE_NORM[dims],
        {"affine": True},
        None,
        None,
        nn.LeakyReLU,
        None,
        return_skips=True,
    )
    network, path = (
        ours(dims, 2, strides=[(s,) * dims if isinstance(s, int) else s for s in strides[1:]]),
        tmp_path / "weights.pth",
    )
    torch.save(theirs.state_dict(), path)
    transfer = load_encoder(network, path)
    assert not (transfer.misfits or transfer.absent or transfer.unplaced)
    x = torch.randn(2, 2, *(8, 12, 16)[:dims])
    with torch.no_grad():
        for expected, got in zip(theirs.encoder(x), stages(network, x), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_the_preset_is_the_shape_of_resenc_l() -> None:
    plan = model_plan(preset="resenc", dims=3)
    assert (plan.widths, plan.encoder_blocks) == ((32, 64, 128, 256, 320, 320), (1, 3, 4, 6, 6, 6))
    assert (plan.norm, plan.activation, plan.leaky_slope, plan.conv_bias, plan.down) == (
        "instance",
        "leaky_relu",
        0.01,
        True,
        "first",
    )


def test_weights_are_found_behind_prefixes_and_beside_numbers(tmp_path: Path) -> None:
    path, weights = tmp_path / "checkpoint_final.pth", peer().state_dict()
    prefixed = {f"module._orig_mod.{name}": weight for name, weight in weights.items()}
    numbers = {
        "logging": {"losses": [np.float64(0.5), np.float32(0.1), np.int64(3)]},
        "_best_ema": np.float64(0.9),
        "current_epoch": 1000,
        "init_args": {"fold": 0},
    }
    torch.save({**numbers, "network_weights": prefixed}, path)
    network = build_model(preset="resenc", dims=3, widths=WIDTHS, encoder_blocks=BLOCKS, encoder_weights=str(path))
    assert torch.equal(network.nodes["x_0_0"].units[0].conv.weight, weights["encoder.stem.convs.0.conv.weight"])
    assert torch.equal(
        network.nodes["x_2_0"].units[0][1].units[1].norm.bias, weights["encoder.stages.2.blocks.1.conv2.norm.bias"]
    )


def test_a_first_convolution_for_other_channels_is_adapted(tmp_path: Path) -> None:
    theirs, network, path = peer(channels=1), ours(channels=3), tmp_path / "weights.pth"
    torch.save(theirs.state_dict(), path)
    transfer = load_encoder(network, path)
    assert transfer.adapted == ("nodes.x_0_0.units.0.conv.weight",)
    assert "adapted" in str(transfer)
    x = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(
            stages(network, x.expand(-1, 3, -1, -1, -1))[0], theirs.encoder(x)[0], rtol=1e-5, atol=1e-5
        )


def test_what_was_not_taken_is_said(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(peer().state_dict(), path)
    transfer = load_encoder(ours(widths=(4, 6, 9), encoder_blocks=(1, 3, 1)), path)
    assert "nodes.x_0_0.units.0.conv.weight" in transfer.taken
    assert (
        transfer.misfits["nodes.x_2_0.units.0.0.units.0.conv.weight"]
        == "8 x 6 x 3 x 3 x 3 in the file, 9 x 6 x 3 x 3 x 3 in the network"
    )
    assert "nodes.x_1_0.units.0.2.units.0.conv.weight" in transfer.absent
    assert "stages.2.blocks.1.conv1.conv.weight" in transfer.unplaced
    shallow = load_encoder(ours(conv_bias=False, widths=WIDTHS[:2], encoder_blocks=BLOCKS[:2]), path)
    assert not shallow.absent
    assert {"stem.convs.0.conv.bias", "stages.2.blocks.0.conv1.conv.weight"} <= set(shallow.unplaced)


def test_files_that_do_not_help_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(ModelFileError, match="no such file"):
        load_encoder(ours(), path)
    torch.save({"network_weights": {"down_projection.proj.weight": torch.zeros(2)}}, path)
    with pytest.raises(ModelFileError, match=r"expected names like encoder\.stages"):
        load_encoder(ours(), path)
    torch.save(peer(dims=2).state_dict(), path)
    with pytest.raises(ModelFileError, match=r"4 x 1 x 3 x 3 in the file, 4 x 1 x 3 x 3 x 3 in the network"):
        load_encoder(ours(), path)
    torch.save({"network_weights": peer().state_dict(), "trainer": Path}, path)  # a class: code
    with pytest.raises(ModelFileError, match="pickled objects"):
        load_encoder(ours(), path)
    with pytest.raises(PlanError, match=r"model\.encoder_weights"):
        model_plan(preset="resenc", encoder_weights="pretrained")
    with pytest.raises(PlanError, match=r"model\.encoder_weights"):
        model_plan(encoder_weights=str(path))


@pytest.mark.parametrize("dims", [2, 3])
def test_norms_are_torchs_and_go_down_to_one_voxel(dims: int) -> None:
    x, voxel = torch.randn(2, 8, *(5, 4, 3)[:dims]), torch.randn(1, 8, *(1,) * dims)
    assert torch.equal(make_norm("instance", 8, dims)(x), INSTANCE_NORM[dims](8, affine=True)(x))
    assert torch.equal(make_norm("group", 8, dims, 4)(x), nn.GroupNorm(4, 8)(x))
    assert torch.equal(make_norm("layer", 8, dims)(x), nn.GroupNorm(1, 8)(x))
    for norm in (GroupNorm(8, None), GroupNorm(8, 8), BatchNorm(8, dims)):
        nn.init.normal_(norm.get_parameter("norm.bias" if isinstance(norm, BatchNorm) else "bias"))
        assert norm(voxel).isfinite().all()
    with pytest.raises(PlanError, match="got 3; expected a divisor of 8"):
        GroupNorm(8, 3)


def test_frozen_statistics_are_what_they_were() -> None:
    norm = BatchNorm(3, 2)
    norm(torch.randn(2, 3, 4, 4))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    with FrozenStatistics(norm):
        norm(torch.randn(2, 3, 4, 4))
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    norm(torch.randn(2, 3, 4, 4))
    assert norm.norm.num_batches_tracked == 2


def test_pooling_takes_any_size() -> None:
    x = torch.arange(5.0).view(1, 1, 1, 5)
    assert Pooling(nn.MaxPool2d, (1, 2))(x).flatten().tolist() == [1, 3, 4]
    assert Pooling(nn.MaxPool2d, (1, 2), ceil=False)(x).flatten().tolist() == [1, 3]
    assert Pooling(nn.MaxPool2d, (3, 2), ceil=False)(x[..., :1]).flatten().tolist() == [0]
    assert Pooling(nn.AvgPool2d, (1, 2))(x).flatten().tolist() == [0.5, 2.5, 4]
    odd = torch.randn(2, 3, 7, 9)
    assert torch.equal(Pooling(nn.MaxPool2d, (2, 2))(odd), nn.MaxPool2d(2, ceil_mode=True)(odd))


def test_crop_or_pad_keeps_the_start_and_repeats_the_last_values() -> None:
    x = torch.arange(6.0).view(1, 1, 2, 3)
    assert crop_or_pad(x, (1, 5)).tolist() == [[[[0, 1, 2, 2, 2]]]]
    assert crop_or_pad(x, (2, 3)).data_ptr() == x.data_ptr()


def test_a_plan_of_resenc_needs_its_blocks() -> None:
    plan = model_plan(encoder="resenc", widths=WIDTHS, down="conv")
    assert build_from_plan(plan)(torch.randn(1, 1, 9, 9)).shape == (1, 2, 9, 9)
    with pytest.raises(PlanError, match=r"model\.encoder_blocks"):
        model_plan(encoder="resenc", widths=WIDTHS, encoder_blocks=(1, 2))
