"""Checkpoints of the real libraries, and of independent networks with the names of those that are not packaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.deploy.peers.fixtures.networks import NestedUNet, ResNet34UnetPlus, UNet2Plus
from torch import nn

from unetpp.deploy.peers.imported import import_file
from unetpp.errors import ModelFileError, UsageError
from unetpp.model.file import load_model

PER_CASE = {"data.normalization": [{"per_case": True}] * 3}


def trained(network: nn.Module) -> nn.Module:
    """Statistics as after a training, so that a mistake with them shows."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def imported_and_compared(network: nn.Module, folder: Path, size: tuple[int, ...], settings: dict[str, Any]) -> Any:
    """Import a network's state_dict; the largest difference of the logits must be rounding."""
    trained(network)
    torch.save(network.state_dict(), folder / "peer.pt")
    result = import_file(folder / "peer.pt", folder / "ours.safetensors", None, settings)
    ours, _ = load_model(folder / "ours.safetensors")
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        theirs, got = network(image), ours(image)
    theirs = theirs[-1] if isinstance(theirs, list | tuple) else theirs
    got = got if got.shape == theirs.shape else got[:, 1:] - got[:, :1]
    assert float((got - theirs).abs().max()) <= 1e-5 * max(1.0, float(theirs.abs().max()))
    assert result.tensors + len(result.ignored) == len(network.state_dict())
    return result


@pytest.mark.parametrize(
    ("kind", "encoder", "options"),
    [
        ("UnetPlusPlus", "resnet18", {"classes": 3}),
        ("UnetPlusPlus", "resnet34", {"classes": 1, "encoder_depth": 3, "decoder_channels": (32, 16, 8)}),
        ("UnetPlusPlus", "resnet18", {"classes": 2, "encoder_depth": 4, "decoder_channels": (64, 32, 32, 16), "decoder_attention_type": "scse"}),
        ("UnetPlusPlus", "vgg11", {"classes": 2}),
        ("Unet", "resnet18", {"classes": 2}),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # of SMP, for an attention that it never uses
def test_segmentation_models_pytorch(tmp_path: Path, kind: str, encoder: str, options: dict[str, Any]) -> None:
    try:
        import segmentation_models_pytorch as smp
    except (ImportError, RuntimeError):
        pytest.skip("segmentation_models_pytorch is absent, or its torchvision is broken")
    torch.manual_seed(0)
    result = imported_and_compared(getattr(smp, kind)(encoder, encoder_weights=None, **options), tmp_path, (64, 96), {})
    assert result.plan.model.encoder == encoder


@pytest.mark.parametrize("up", ["deconv", "nontrainable", "pixelshuffle"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_monai_in_2d_at_odd_sizes(tmp_path: Path, up: str, norm: str) -> None:
    from monai.networks.nets import BasicUNetPlusPlus

    torch.manual_seed(0)
    norm_of_monai = (norm, {"affine": True}) if norm == "instance" else norm
    network = BasicUNetPlusPlus(2, 3, 2, features=(8, 8, 16, 16, 32, 8), upsample=up, norm=norm_of_monai)
    result = imported_and_compared(network, tmp_path, (35, 50), PER_CASE)
    assert {name.split(".")[0] for name in result.ignored} == {"final_conv_0_1", "final_conv_0_2", "final_conv_0_3"}


def test_every_depth_of_monai_with_deep_supervision_in_3d(tmp_path: Path) -> None:
    from monai.networks.nets import BasicUNetPlusPlus

    torch.manual_seed(0)
    network = BasicUNetPlusPlus(3, 3, 2, features=(4, 4, 8, 8, 8, 4), deep_supervision=True)
    imported_and_compared(network, tmp_path, (32, 32, 33), PER_CASE | {"model.deep_supervision": True})
    ours, _ = load_model(tmp_path / "ours.safetensors")
    image = torch.randn(1, 3, 32, 32, 33)
    with torch.no_grad():
        for depth, theirs in enumerate(network(image), start=1):
            torch.testing.assert_close(ours.prune(depth)(image), theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{"supervised": True}, {}, {"plain": True}])
def test_pytorch_nested_unet(tmp_path: Path, options: dict[str, bool]) -> None:
    torch.manual_seed(0)
    as_it_is = {"data.channels": ["blue", "green", "red"]}  # else the first convolution is turned round to red, green, blue
    imported_and_compared(NestedUNet(2, 3, **options), tmp_path, (32, 48), as_it_is)


@pytest.mark.parametrize("network", [UNet2Plus, ResNet34UnetPlus])
def test_peers_whose_heads_are_mixed(tmp_path: Path, network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    imported_and_compared(network(3, 2), tmp_path, (64, 96), PER_CASE)


def test_what_a_checkpoint_does_not_say_is_asked_for_by_name(tmp_path: Path) -> None:
    from monai.networks.nets import BasicUNetPlusPlus

    torch.save(BasicUNetPlusPlus(2, 1, 2, features=(4, 4, 4, 4, 4, 4)).state_dict(), tmp_path / "peer.pt")
    with pytest.raises(UsageError, match=r"--set data\.normalization"):
        import_file(tmp_path / "peer.pt", tmp_path / "ours.safetensors", None, {})
    with pytest.raises(UsageError, match="--from"):
        import_file(tmp_path / "peer.pt", tmp_path / "ours.safetensors", "keras", {})
    assert not (tmp_path / "ours.safetensors").exists()


def test_nothing_is_unpickled_and_every_foreign_file_is_one_message(tmp_path: Path) -> None:
    whole, truncated, foreign = tmp_path / "whole.pt", tmp_path / "truncated.pt", tmp_path / "foreign.pt"
    torch.save(nn.Conv2d(1, 1, 1), whole)
    torch.save(nn.Conv2d(1, 1, 1).state_dict(), foreign)
    truncated.write_bytes(foreign.read_bytes()[:200])
    for path, said in ((whole, "pickled objects"), (truncated, "truncated"), (foreign, "another network"), (tmp_path / "none.pt", "no such file")):
        with pytest.raises(ModelFileError, match=said):
            import_file(path, tmp_path / "ours.safetensors", None, {})
