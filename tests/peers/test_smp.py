"""UnetPlusPlus and Unet of segmentation_models_pytorch, both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.peers.reading import PLAIN, differences, read, require, run, trained
from tests.plans import small_plan
from torch import nn

from unetpp.errors import MissingExtraError, ModelFileError, UsageError
from unetpp.model.build import build_from_plan, model_plan
from unetpp.peers import to_smp
from unetpp.peers.import_settings import IMAGENET_MEAN
from unetpp.peers.importing import import_file

smp = require("segmentation_models_pytorch")

pytestmark = pytest.mark.filterwarnings(
    "ignore:Initializing zero-element tensors", "ignore:`timm-` encoders are deprecated"
)
NARROW = (16, 16, 16, 8, 8)
UNRUN = "of the encoder, beyond what the network uses"


def network(
    kind: str = "UnetPlusPlus", encoder: str = "resnet18", channels: int = 3, depth: int = 5, **options: Any
) -> nn.Module:
    arguments = {
        "encoder_weights": None,
        "in_channels": channels,
        "classes": 2,
        "encoder_depth": depth,
        "decoder_channels": NARROW[:depth],
        **options,
    }
    torch.manual_seed(0)
    return trained(getattr(smp, kind)(encoder, **arguments))


def image(channels: int = 3) -> torch.Tensor:
    return torch.randn(1, channels, 32, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("kind", "options", "said", "unused"),
    [
        ("UnetPlusPlus", {}, {}, set()),
        ("Unet", {}, {}, set()),
        (
            "UnetPlusPlus",
            {"decoder_attention_type": "scse", "decoder_channels": (16,) * 5},
            {},
            {"SMP never runs it in a block without a skip"},
        ),
        (
            "Unet",
            {"decoder_attention_type": "scse", "decoder_channels": (16,) * 4, "depth": 4},
            {},
            {"SMP never runs it in a block without a skip", UNRUN},
        ),
        ("UnetPlusPlus", {"decoder_use_norm": False, "depth": 4}, {}, {UNRUN}),
        ("UnetPlusPlus", {"decoder_use_norm": {"type": "instancenorm", "affine": True}, "depth": 3}, {}, {UNRUN}),
        ("UnetPlusPlus", {"decoder_interpolation": "bilinear", "depth": 3}, {"model.up": "linear"}, {UNRUN}),
        ("Unet", {"decoder_interpolation": "bicubic", "depth": 3}, {"model.up": "cubic"}, {UNRUN}),
        ("UnetPlusPlus", {"decoder_interpolation": "area", "depth": 3}, {}, {UNRUN}),
        ("UnetPlusPlus", {"decoder_interpolation": "nearest-exact", "depth": 3}, {}, {UNRUN}),
        ("UnetPlusPlus", {"aux_params": {"classes": 3}, "depth": 3}, {}, {UNRUN, "the head for whole images"}),
    ],
)
def test_every_option_of_the_decoder(
    kind: str, options: dict[str, Any], said: dict[str, Any], unused: set[str]
) -> None:
    theirs = network(kind, **options)
    ours, plan, ignored = read(theirs.state_dict(), said)
    logits = run(theirs, image())
    assert differences([logits[0] if "aux_params" in options else logits], [run(ours, image())]) == [0.0]
    assert set(ignored.values()) == unused
    assert plan.model.encoder == "resnet18"
    assert plan.model.depth == options.get("depth", 5)


@pytest.mark.parametrize(
    ("encoder", "timm_name", "depth"),
    [
        ("resnet34", "resnet34", 5),
        ("efficientnet-b0", "tf_efficientnet_b0@3,5,9,16", 5),
        pytest.param("resnet50", "resnet50", 4, marks=pytest.mark.slow),
        pytest.param("vgg11", "vgg11", 5, marks=pytest.mark.slow),
        pytest.param("vgg16_bn", "vgg16_bn", 3, marks=pytest.mark.slow),
        pytest.param("vgg19", "vgg19", 3, marks=pytest.mark.slow),
        pytest.param("efficientnet-b2", "tf_efficientnet_b2@5,8,16,23;5,8,16", 5, marks=pytest.mark.slow),
        pytest.param("timm-efficientnet-b0", "efficientnet_b0@3,5,11,16", 4, marks=pytest.mark.slow),
        pytest.param("timm-tf_efficientnet_lite0", "efficientnet_lite0@3,5,11,16", 5, marks=pytest.mark.slow),
        pytest.param("se_resnet50", "legacy_seresnet50", 3, marks=pytest.mark.slow),
    ],
)
def test_smps_own_encoders_are_recognized(encoder: str, timm_name: str, depth: int) -> None:
    theirs = network(encoder=encoder, depth=depth)
    ours, plan, _ = read(theirs.state_dict())
    assert plan.model.encoder == timm_name
    found = differences([run(theirs, image())], [run(ours, image())])
    assert found == [0.0] or (
        encoder == "timm-efficientnet-b0" and found[0] < 1e-5
    )  # SMP computes its activation differently
    assert [entry.mean for entry in plan.data.normalization] == pytest.approx([255 * mean for mean in IMAGENET_MEAN])


@pytest.mark.parametrize(
    ("encoder", "depth"),
    [
        ("resnet18", 5),
        ("convnext_atto", 5),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                ("vgg11", 3),
                ("tf_efficientnet_b0", 4),
                ("regnetx_002", 3),
                ("ghostnet_050", 5),
                ("pvt_v2_b0", 5),
            )
        ),
    ],
)
def test_encoders_that_smp_takes_from_timm(encoder: str, depth: int) -> None:
    theirs = network(encoder=f"tu-{encoder}", depth=depth)
    ours, plan, _ = read(theirs.state_dict(), {"model.encoder": f"tu-{encoder}"})
    assert plan.model.encoder == encoder
    assert differences([run(theirs, image())], [run(ours, image())])[0] < 2e-6


def test_a_vggs_center_is_ignored_if_it_is_not_run_and_refused_if_it_is() -> None:
    weights = network(encoder="vgg11", depth=3).state_dict()
    _, _, ignored = read(weights)
    center = {name for name in weights if name.startswith("decoder.center.")}
    assert center and center == {
        name for name, reason in ignored.items() if reason == "SMP never runs it in UnetPlusPlus"
    }
    plain = {
        name.replace("x_0_", ""): tensor
        for name, tensor in weights.items()
        if ".blocks." not in name or ".x_0_" in name
    }
    with pytest.raises(UsageError, match="a block in its center"):
        read(plain)


@pytest.mark.parametrize(
    ("classes", "names"), [(1, ("background", "foreground")), (3, ("background", "class 1", "class 2"))]
)
def test_a_single_sigmoid_gets_a_background_channel(classes: int, names: tuple[str, ...]) -> None:
    _, plan, _ = read(network(depth=3, classes=classes).state_dict())
    assert plan.data.classes == names


@pytest.mark.parametrize("channels", [1, 4])
def test_intensities_of_other_images_are_required(channels: int) -> None:
    weights = network(channels=channels, depth=3).state_dict()
    with pytest.raises(UsageError, match=r"`data\.normalization=\.\.\.` "):
        read(weights)
    theirs = network(channels=channels, depth=3)
    ours, _, _ = read(theirs.state_dict(), {"data.normalization": [PLAIN] * channels})
    assert differences([run(theirs, image(channels))], [run(ours, image(channels))]) == [0.0]


def test_the_name_of_a_timm_encoder_is_required_and_checked() -> None:
    weights = network(encoder="tu-resnet18", depth=3).state_dict()
    with pytest.raises(UsageError, match=r"`model\.encoder=\.\.\.` "):
        read(weights)
    with pytest.raises(UsageError, match="whose tensors are not those of resnet50"):
        read(weights, {"model.encoder": "resnet50"})
    with pytest.raises(ModelFileError, match=r"encoder\.model\.layer1\.2\.conv1\.weight is missing"):
        read(weights, {"model.encoder": "resnet34"})
    with pytest.raises(UsageError, match="Did you mean resnet34"):
        read(weights, {"model.encoder": "resnet_34"})


@pytest.mark.parametrize("encoder", ["densenet121", "mobilenet_v2"])
def test_encoders_without_an_equivalent_in_timm_are_refused(encoder: str) -> None:
    weights = network(encoder=encoder, depth=3).state_dict()
    for said in ({}, {"model.encoder": "densenet121"}):
        with pytest.raises(UsageError, match="got an encoder of SMP's own without an equivalent in timm"):
            read(weights, said)


@pytest.mark.parametrize(
    ("encoder", "timm_name"), [("resnet18", "resnet18"), ("efficientnet-b0", "tf_efficientnet_b0")]
)
def test_the_name_of_smps_own_encoder_may_be_given_if_it_is_right(encoder: str, timm_name: str) -> None:
    weights = network(encoder=encoder, depth=3).state_dict()
    assert read(weights, {"model.encoder": timm_name, "model.depth": 3})[1] == read(weights)[1]
    with pytest.raises(
        UsageError,
        match=f"model.encoder: got 'resnet34'; expected '{timm_name}.*', as in the checkpoint",
    ):
        read(weights, {"model.encoder": "resnet34"})


def test_attention_to_empty_skips_is_refused() -> None:
    weights = network(
        encoder="tu-convnext_atto", decoder_attention_type="scse", decoder_channels=(16,) * 5
    ).state_dict()
    with pytest.raises(UsageError, match="got scSE attention with convnext_atto, which begins at a quarter"):
        read(weights, {"model.encoder": "convnext_atto"})


def test_unknown_and_missing_tensors_are_named() -> None:
    weights = network(depth=3).state_dict()
    with pytest.raises(ModelFileError, match=r"decoder\.blocks\.x_0_0\.conv3\.weight is unknown"):
        read({**weights, "decoder.blocks.x_0_0.conv3.weight": torch.zeros(1)})
    del weights["decoder.blocks.x_1_1.conv1.1.running_mean"]
    with pytest.raises(ModelFileError, match=r"decoder\.blocks\.x_1_1\.conv1\.1\.running_mean is missing"):
        read(weights)


@pytest.mark.parametrize(
    ("kind", "encoder", "options", "said"),
    [
        ("UnetPlusPlus", "resnet18", {}, {}),
        ("Unet", "resnet18", {"decoder_attention_type": "scse", "decoder_channels": (32, 16, 16), "depth": 3}, {}),
        (
            "UnetPlusPlus",
            "resnet18",
            {"decoder_attention_type": "scse", "decoder_channels": (32, 16, 16), "depth": 3},
            {},
        ),
        (
            "UnetPlusPlus",
            "resnet18",
            {"decoder_use_norm": False, "decoder_interpolation": "bicubic", "depth": 4},
            {"model.up": "cubic"},
        ),
        (
            "UnetPlusPlus",
            "tu-convnext_atto",
            {"decoder_use_norm": {"type": "instancenorm", "affine": True}},
            {"model.encoder": "convnext_atto"},
        ),
        pytest.param("Unet", "tu-vgg11", {"depth": 3}, {"model.encoder": "vgg11"}, marks=pytest.mark.slow),
        pytest.param(
            "UnetPlusPlus",
            "tu-tf_efficientnet_b0",
            {"depth": 3},
            {"model.encoder": "tf_efficientnet_b0"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_round_trip(kind: str, encoder: str, options: dict[str, Any], said: dict[str, Any]) -> None:
    ours, plan, _ = read(network(kind, encoder, **options).state_dict(), said)
    peer = to_smp(ours, plan)
    theirs = getattr(smp, kind)(**peer.arguments).eval()
    assert peer.constructor == f"segmentation_models_pytorch.{kind}"
    theirs.load_state_dict(peer.state_dict, strict=True)
    assert all(not peer.state_dict[name].any() for name in peer.unused)
    assert differences([run(theirs, image())], [run(ours, image())])[0] < 2e-6


def test_fields_that_do_not_fit_are_named() -> None:
    plan = small_plan(channels=3)
    with pytest.raises(
        UsageError, match=r"got model\.encoder None and model\.depth 2; expected a whole model of timm, and 3 to 5"
    ):
        to_smp(build_from_plan(plan.model), plan)
    plan = plan.model_copy(update={"model": model_plan(encoder="resnet18", in_channels=3, first_width=4, depth=3)})
    with pytest.raises(UsageError) as error:
        to_smp(build_from_plan(plan.model), plan)
    for text in (
        "model.stem is True, there it is False",
        "model.norm is 'group', there it is 'batch'",
        "model.deep_supervision is True",
        "model.head_kernel is 1, there it is 3",
    ):
        assert text in str(error.value)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from unetpp.peers import smp_encoders

    def absent() -> None:
        raise MissingExtraError("timm", "encoders", "model.encoder")

    weights = network(encoder="tu-resnet18", depth=3).state_dict()
    monkeypatch.setattr(smp_encoders, "require_known", lambda name: absent())
    smp_encoders._make_body.cache_clear()
    with pytest.raises(MissingExtraError, match=r"unetpp\[encoders\]"):
        read(weights, {"model.encoder": "resnet18"})


def test_a_folder_of_save_pretrained_tells_the_settings(tmp_path: Path) -> None:
    require("huggingface_hub")
    theirs = network(encoder="tu-resnet18", depth=3, decoder_interpolation="bilinear", activation="sigmoid")
    theirs.save_pretrained(tmp_path / "theirs")
    imported = import_file(tmp_path / "theirs", tmp_path / "ours.safetensors", None, {})
    assert imported.plan.name == "theirs"
    assert imported.plan.model.up == "linear"
    assert imported.plan.model.encoder == "resnet18"
    assert imported.plan.data.classes == ("background", "class 1", "class 2")
    assert not {"model.up", "model.encoder"} & set(imported.assumed)
