"""Networks of peers that no registry packages, and the command `import` for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from tests.peers.fixtures.networks import GenericUNetPlusPlus, NestedUNet, ResNet34UnetPlus, UNet2Plus
from tests.peers.reading import PLAIN, differences, read, require, run, trained
from tests.tiny import run_cli, set_options, write_png
from torch import nn

from unetpp.errors import ModelFileError, UsageError
from unetpp.formats.readers import read_label
from unetpp.model.foreign import read_foreign
from unetpp.peers.importing import PEERS, import_file
from unetpp.verbs.arguments import Library

AS_READ = {"data.normalization": [PLAIN] * 3}
IMAGENET_MEAN, IMAGENET_STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def image(*size: int) -> torch.Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("options", [{"supervised": True}, {}, {"plain": True}])
def test_nested_unet(options: dict[str, bool]) -> None:
    theirs = trained(NestedUNet(2, 3, **options))
    ours, plan, ignored = read(theirs.state_dict(), {"data.channels": ["blue", "green", "red"]})
    expected, found = run(theirs, image(32, 48)), run(ours, image(32, 48), heads=True).logits
    assert differences(expected, found) == [0.0] * (4 if "supervised" in options else 1)
    assert ignored == {}
    assert plan.model.topology == ("unet" if "plain" in options else "unet++")


def test_nested_unet_gets_color_images_as_in_its_training() -> None:
    """OpenCV's blue, green, red; the statistics of red, green, blue; then once more divided by 255."""
    theirs = trained(NestedUNet(1, 3))
    ours, plan, _ = read(theirs.state_dict())
    colors = torch.randint(0, 256, (1, 3, 32, 48), generator=torch.Generator().manual_seed(0)).float()
    as_trained = ((colors.flip(1) / 255 - IMAGENET_MEAN[:, None, None]) / IMAGENET_STD[:, None, None]) / 255
    assert plan.data.channels == ("red", "green", "blue")
    assert not any(entry.per_case for entry in plan.data.normalization)
    means, stds = (
        torch.tensor([getattr(entry, name) for entry in plan.data.normalization])[:, None, None]
        for name in ("mean", "std")
    )
    assert differences(run(theirs, as_trained), [run(ours, (colors - means) / stds)])[0] < 1e-5


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("mean", [True, False])
def test_unet_version(normed: bool, mean: bool) -> None:
    theirs = trained(UNet2Plus(3, 2, normed=normed, mean=mean))
    ours, plan, ignored = read(theirs.state_dict(), AS_READ | ({} if mean else {"model.fusion": "none"}))
    assert differences([run(theirs, image(32, 48))], [run(ours, image(32, 48))])[0] < 1e-5
    assert {name.split(".")[0] for name in ignored} == (set() if mean else {"final_1", "final_2", "final_3"})
    assert plan.model.norm == ("batch" if normed else "none")


def test_pytorch_medical_segmentation() -> None:
    require("timm")
    theirs = trained(ResNet34UnetPlus(3, 2))
    tensors = theirs.state_dict()
    assert len(set(tensors["mix"].tolist())) == 5
    ours, _, ignored = read(tensors)
    assert differences([run(theirs, image(64, 96))], [run(ours, image(64, 96))])[0] < 1e-5
    assert ignored == {}
    old = {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    assert differences([run(read(old)[0], image(64, 96))], [run(ours, image(64, 96))]) == [0.0]
    del old["encoder1.0.bn1.weight"]
    with pytest.raises(ModelFileError, match=r"encoder1\.0\.bn1\.weight is missing"):
        read(old)


def smp_network() -> nn.Module:
    smp = require("segmentation_models_pytorch")
    return smp.UnetPlusPlus("resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(16, 8, 8), classes=2)


def monai_network() -> nn.Module:
    return require("monai.networks.nets").BasicUNetPlusPlus(2, 3, 2, features=(4, 4, 4, 4, 4, 4))


def pms_network() -> nn.Module:
    require("timm")
    return ResNet34UnetPlus(3, 1)


def nnunet_network() -> nn.Module:
    return GenericUNetPlusPlus(3, 2, (4, 4, 6, 6, 8, 8), [(2, 2)] * 5, [(3, 3)] * 6)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "smp": (smp_network, {}),
    "monai": (monai_network, AS_READ),
    "nested-unet": (lambda: NestedUNet(1, 3), {}),
    "unet-version": (lambda: UNet2Plus(3, 1), AS_READ),
    "pms": (pms_network, {}),
    "nnunet-v1": (nnunet_network, AS_READ),
}
"""A network of each peer, and the settings that it requires."""


@pytest.mark.parametrize("peer", NETWORKS)
def test_the_command_makes_a_model_that_predicts(tmp_path: Path, peer: str) -> None:
    make, said = NETWORKS[peer]
    tensors = trained(make()).state_dict()
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "peer.pt")
    write_png(tmp_path / "one.png", np.random.default_rng(0).integers(0, 256, (70, 50, 3), dtype=np.uint8))
    answer = run_cli(
        "import",
        tmp_path / "peer.pt",
        "--out",
        tmp_path / "ours.safetensors",
        "--json",
        *(set_options(said) if said else []),
    )
    assert answer.code == 0, answer.stderr
    told = json.loads(answer.stdout)
    assert told["tensors"] + len(told["ignored"]) == len(tensors)
    assert run_cli("info", tmp_path / "ours.safetensors").code == 0
    answer = run_cli("predict", tmp_path / "ours.safetensors", tmp_path / "one.png", "--out", tmp_path / "out")
    assert answer.code == 0, answer.stderr
    assert read_label(tmp_path / "out" / "one.png").shape == (70, 50)


def test_the_command_reports_what_it_did(tmp_path: Path) -> None:
    torch.save(monai_network().state_dict(), tmp_path / "peer.pt")
    answer = run_cli("import", tmp_path / "peer.pt", "--out", tmp_path / "ours.safetensors", *set_options(AS_READ))
    assert answer.code == 0, answer.stderr
    for text in (
        "BasicUNetPlusPlus",
        "tensors of the checkpoint are used",
        "final_conv_0_1",
        "model.deep_supervision",
        "Next: unetpp predict",
    ):
        assert text in answer.stdout
    answer = run_cli("import", tmp_path / "peer.pt", "--out", tmp_path / "other.safetensors")
    assert answer.code == 2
    assert "--set data.normalization=..." in answer.stderr


def test_the_command_keeps_the_checkpoint_and_writes_model_files_only(tmp_path: Path) -> None:
    torch.save(NestedUNet(1, 3).state_dict(), tmp_path / "peer.safetensors")
    for out, said in (
        (tmp_path / "peer.safetensors", "expected another file"),
        (tmp_path / "ours.pt", "ending in .safetensors"),
    ):
        answer = run_cli("import", tmp_path / "peer.safetensors", "--out", out)
        assert answer.code == 2
        assert said in answer.stderr


def test_the_command_knows_every_peer() -> None:
    assert set(get_args(Library)) == set(PEERS) == {*NETWORKS, "unetpp"}


def test_missing_settings_are_named(tmp_path: Path) -> None:
    torch.save(monai_network().state_dict(), tmp_path / "peer.pt")
    with pytest.raises(UsageError, match=r"`data\.normalization=\.\.\.`"):
        import_file(tmp_path / "peer.pt", tmp_path / "ours.safetensors", None, {})
    with pytest.raises(UsageError, match="from_: got"):
        import_file(tmp_path / "peer.pt", tmp_path / "ours.safetensors", "keras", {})
    assert not (tmp_path / "ours.safetensors").exists()


def test_nothing_is_unpickled_and_every_other_file_is_one_message(tmp_path: Path) -> None:
    whole, truncated, foreign = tmp_path / "whole.pt", tmp_path / "truncated.pt", tmp_path / "foreign.pt"
    torch.save(nn.Conv2d(1, 1, 1), whole)
    torch.save(nn.Conv2d(1, 1, 1).state_dict(), foreign)
    truncated.write_bytes(foreign.read_bytes()[:200])
    for path, said in (
        (whole, "pickled objects"),
        (truncated, "truncated"),
        (foreign, "another network"),
        (tmp_path / "none.pt", "no such file"),
    ):
        with pytest.raises(ModelFileError, match=said):
            import_file(path, tmp_path / "ours.safetensors", None, {})


def test_a_text_is_no_checkpoint(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("classes\nbackground nucleus\n")  # c: an operation of a pickle
    with pytest.raises(ModelFileError, match="a file that is truncated or no checkpoint"):
        read_foreign(text)
