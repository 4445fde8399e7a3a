"""Encoders of timm: shapes, training of every weight, pruning without a change of the output, sources of weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

try:
    import timm
except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision of another build of torch
    pytest.skip(f"timm: {error}", allow_module_level=True)

import unetpp
from tests.planning.test_planner import plan_for
from tests.tiny import run_cli, set_options
from unetpp.data.demo import write_demo_data
from unetpp.errors import ModelFileError, PlanError, UsageError
from unetpp.model import encoder_weights
from unetpp.model.build import build_from_plan, build_model, model_plan
from unetpp.model.encoders import encoder_shape, encoder_statistics
from unetpp.model.file import load_model
from unetpp.model.header import read_header
from unetpp.model.network import UNetPlusPlus
from unetpp.model.pruned_plan import prune_plan
from unetpp.model.timm_models import TimmModel
from unetpp.planning import intensity_rules

SMALL = {
    # name -> levels that it gives, divisor
    "test_resnet": ((1, 2, 3, 4, 5), 32),
    "test_convnext": ((2, 3, 4, 5), 32),  # starts at stride 4
    "test_efficientnet": ((1, 2, 3, 4, 5), 32),
    "test_mambaout": ((2, 3, 4, 5), 32),
    "test_nfnet": ((1, 2, 3, 4, 5), 32),
    "test_vit": ((4,), 16),  # one map, at stride 16
    "test_vit_relpos": ((4,), 160),  # takes one size only: seen in windows
    "test_coatnet": ((1, 2, 3, 4, 5), 160),
    "vgg11": ((0, 1, 2, 3, 4, 5), 32),  # starts at full resolution
    "inception_v3": ((1, 2, 3, 4, 5), 96),  # convolutions without padding
}


def small(name: str = "test_resnet", **fields: Any) -> UNetPlusPlus:
    torch.manual_seed(0)
    return build_model(**{"encoder": name, "in_channels": 2, "out_channels": 2, "first_width": 4, **fields})


def untrained(network: UNetPlusPlus, x: Tensor) -> list[str]:
    """Names of the weights that a step does not reach."""
    sum(((logits + 1) ** 2).mean() for logits in network.train()(x, heads=True).logits).backward()
    return [name for name, weight in network.named_parameters() if weight.grad is None]


def body_of(network: UNetPlusPlus) -> Any:
    assert network.encoder is not None
    return network.encoder.body


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_is_trained_and_pruning_drops_stages_and_changes_nothing(name: str) -> None:
    network, x = small(name), torch.randn(1, 2, 33, 39)
    assert untrained(network, x) == []
    network.eval()
    parameters = []
    with torch.no_grad():
        full = network(x, heads=True)
        assert all(logits.shape == (1, 2, 33, 39) for logits in full.logits)
        for depth in network.head_depths:
            pruned = network.prune(depth)
            assert torch.equal(pruned(x), network(x, depth=depth))
            assert torch.equal(pruned(x), full.at(depth))
            parameters.append(sum(weight.numel() for weight in body_of(pruned).parameters()) if pruned.encoder else 0)
    levels, divisor = SMALL[name]
    assert (network.encoder.levels, network.divisor) == (levels, (divisor, divisor))
    assert network.depth == levels[-1]
    if name != "vgg11":  # whose last map is pooled
        assert all(parameters[level - 1] < parameters[-1] for level in range(1, levels[-1]))


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit", "test_coatnet"])
def test_a_pruned_network_is_built_from_its_own_plan(name: str) -> None:
    network, x = small(name).eval(), torch.randn(1, 2, 20, 34)
    plan = model_plan(encoder=name, in_channels=2, out_channels=2, first_width=4)
    for depth in network.head_depths:
        rebuilt, pruned = build_from_plan(prune_plan(plan, depth)).eval(), network.prune(depth)
        rebuilt.load_state_dict(pruned.state_dict())
        with torch.no_grad():
            assert torch.equal(rebuilt(x), pruned(x))


@given(
    name=st.sampled_from(["test_resnet", "test_convnext", "test_vit", "test_efficientnet", "test_coatnet"]),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    batch=st.integers(1, 2),
    fields=st.fixed_dictionaries(
        {
            "in_channels": st.integers(1, 5),
            "depth": st.sampled_from([None, 4]),
            "norm": st.sampled_from(["batch", "group", "instance"]),
            "topology": st.sampled_from(["unet++", "unet+", "unet_e", "unet"]),
            "up": st.sampled_from(["transposed", "linear", "nearest"]),
        }
    ),
)
@settings(max_examples=8, deadline=None)
def test_any_size_channels_and_dials_work(name: str, size: tuple[int, int], batch: int, fields: dict[str, Any]) -> None:
    network, x = small(name, **fields), torch.randn(batch, fields["in_channels"], *size)
    assert untrained(network, x) == []
    network.eval()
    with torch.no_grad():
        for depth in network.head_depths:
            assert torch.equal(network.prune(depth)(x), network(x, depth=depth))


def test_a_batch_of_one_image_of_one_deepest_pixel_trains() -> None:
    """Running statistics are used if each channel has one value; otherwise statistics of the batch."""
    network = small("test_resnet", depth=5)
    deepest, first = body_of(network).layer4[-1].bn2, body_of(network).bn1
    untrained(network, torch.randn(1, 2, 1, 1))
    assert deepest.training and first.training
    assert (int(deepest.num_batches_tracked), int(first.num_batches_tracked)) == (0, 1)
    network(torch.randn(2, 2, 1, 1))
    assert int(deepest.num_batches_tracked) == 1


@pytest.mark.parametrize("name", ["test_coatnet", "test_vit_relpos"])
def test_a_model_of_one_size_sees_a_larger_image_in_windows(name: str) -> None:
    encoder, image = small(name).eval().encoder, torch.randn(1, 2, 160, 320)
    with torch.no_grad():
        whole = encoder(image, 5)
        halves = [encoder(image[..., columns], 5) for columns in (slice(160), slice(160, None))]
    for level, feature in whole.items():
        assert torch.allclose(feature, torch.cat([half[level] for half in halves], dim=3), atol=1e-5)


def test_patches_of_14_pixels_are_brought_to_the_level_of_16() -> None:
    encoder = small("eva02_tiny_patch14_224").encoder
    assert encoder(torch.randn(1, 2, 112, 224), 4)[4].shape[2:] == (7, 14)
    assert encoder.body.patch_embed.proj.kernel_size == (14, 14)


def test_one_head_computes_only_the_stages_it_needs() -> None:
    network = small("resnet18").eval()
    seen: list[str] = []
    for name in ("layer1", "layer2", "layer3", "layer4"):
        getattr(body_of(network), name).register_forward_hook(lambda *_, name=name: seen.append(name))
    network(torch.randn(1, 2, 32, 32), depth=3)
    assert seen == ["layer1", "layer2"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "resnet50", "resnext50_32x4d", "densenet121", "inception_resnet_v2"])
def test_a_network_of_each_family_in_the_papers_trains_a_step_and_prunes(name: str) -> None:
    """Other VGGs, ResNets and Inceptions are above; benchmarks/encoders.py writes all sizes to docs/encoders.md."""
    network, x = small(name), torch.randn(1, 2, 64, 64)
    assert untrained(network, x) == []
    network.eval()
    with torch.no_grad():
        assert torch.equal(network.prune(2)(x), network(x, depth=2))


@pytest.mark.parametrize("name", ["vgg16", "resnet152", "efficientnet_b4", "convnextv2_tiny"])
def test_encoders_of_the_papers_give_the_levels_of_the_grid(name: str) -> None:
    shape = encoder_shape(name)
    assert shape.depth == 5
    assert set(shape.widths) == (
        {0, 1, 2, 3, 4, 5}
        if name.startswith("vgg")
        else {2, 3, 4, 5}
        if name.startswith("convnext")
        else {1, 2, 3, 4, 5}
    )


def test_a_smaller_depth_divides_by_less_and_levels_beyond_the_encoder_are_our_own() -> None:
    assert (encoder_shape("test_resnet", 3).divisor, encoder_shape("test_coatnet", 3).divisor) == (8, 160)
    network = small("test_resnet", depth=6)
    assert network.encoder.levels == (1, 2, 3, 4, 5)
    assert untrained(network, torch.randn(2, 2, 64, 64)) == []
    with pytest.raises(
        UsageError,
        match=r"model\.depth: got 1; expected 2 or more: the first feature map of test_convnext is at level 2",
    ):
        encoder_shape("test_convnext", 1)


def test_the_grid_may_start_at_the_stride_of_the_encoder() -> None:
    """Like two of the peers: no X[0, 0], or level 0 at stride 2."""
    alone, half = small("resnet18", stem=False), small("resnet18", output_stride=2, depth=4)
    assert "x_0_0" not in alone.nodes and alone.encoder.levels == (1, 2, 3, 4, 5)
    assert half.encoder.levels == (0, 1, 2, 3, 4)
    for network in (alone, half):
        assert untrained(network, torch.randn(1, 2, 33, 40)) == []
        assert network(torch.randn(1, 2, 33, 40)).shape == (1, 2, 33, 40)


def test_widths_of_the_encoder_cannot_be_changed() -> None:
    with pytest.raises(PlanError, match=r"model\.widths: got 8 at level 1; expected 32, the channels of test_resnet"):
        small(widths=[4, 8, 16])
    with pytest.raises(PlanError, match=r"model\.strides.*2 along both axes"):
        model_plan(encoder="test_resnet", depth=2, strides=[[1, 2], [2, 2]])
    with pytest.raises(UsageError, match=r"3D: the models of timm are 2D") as raised:
        model_plan(encoder="test_resnet", dims=3)
    assert "\n" not in str(raised.value)


def test_an_unknown_model_is_told_with_the_nearest_names() -> None:
    with pytest.raises(UsageError, match=r"got 'resnet_34'; .* Did you mean resnet34 "):
        encoder_shape("resnet_34")
    with pytest.raises(UsageError, match=r"There are \d+, such as resnet34"):
        encoder_shape("qqqqqqq")
    with pytest.raises(UsageError, match=r"got 'resnet34\.x'; expected resnet34, alone or as one of resnet34\.a1_in1k"):
        encoder_shape("resnet34.x")
    assert encoder_shape("resnet34.a1_in1k").widths == {1: 64, 2: 64, 3: 128, 4: 256, 5: 512}


def test_a_graph_of_any_encoder_step_is_whole() -> None:
    network, x = small("test_resnet").eval(), torch.randn(1, 2, 33, 39)
    with torch.no_grad():
        assert torch.equal(torch.compile(network, fullgraph=True, backend="eager")(x), network(x))
        assert torch.allclose(torch.export.export(network, (x,)).module()(x), network(x), atol=1e-6)


# weights


def whole_model(name: str = "test_resnet", **fields: Any) -> Any:
    torch.manual_seed(7)
    return timm.create_model(name, **fields)


def loaded(source: Path | str, name: str = "test_resnet", in_channels: int = 3) -> UNetPlusPlus:
    return small(name, in_channels=in_channels, encoder_weights=str(source))


def save_bin(weights: dict[str, Any], path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": weight for name, weight in weights.items()}}, path)


@pytest.mark.parametrize(("suffix", "save"), [("safetensors", save_file), ("pth", torch.save), ("bin", save_bin)])
def test_weights_of_a_file_are_taken_whatever_its_classifier(
    tmp_path: Path, suffix: str, save: Callable[[Any, Path], None]
) -> None:
    model, path = whole_model(num_classes=7), tmp_path / f"weights.{suffix}"
    save(model.state_dict(), path)
    body = body_of(loaded(path))
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in body.state_dict().items())
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(
        body.eval().forward_intermediates(x, intermediates_only=True)[-1],
        model.eval().forward_intermediates(x, intermediates_only=True)[-1],
    )


@pytest.mark.parametrize("in_channels", [1, 5])
def test_the_first_convolution_is_adapted_to_the_channels(tmp_path: Path, in_channels: int) -> None:
    model = whole_model()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    body = body_of(loaded(tmp_path / "weights.safetensors", in_channels=in_channels))
    first = next(name for name, weight in model.state_dict().items() if weight.ndim == 4)
    assert torch.allclose(
        body.state_dict()[first], timm.models.adapt_input_conv(in_channels, model.state_dict()[first])
    )
    assert torch.equal(body.layer4[0].conv1.weight, model.layer4[0].conv1.weight)


def test_a_file_that_is_not_of_the_model_is_one_error(tmp_path: Path) -> None:
    weights, path = whole_model().state_dict(), tmp_path / "weights.safetensors"
    save_file(weights, path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ModelFileError, match=r"weights\.safetensors: got a file that cannot be read .*Copy it again"):
        loaded(path)
    save_file(whole_model("test_convnext").state_dict(), path)
    with pytest.raises(
        ModelFileError, match=r"got no weights for .* and \d+ more; expected all that the encoder needs of test_resnet"
    ):
        loaded(path)
    save_file({name: weight for name, weight in weights.items() if name != "layer2.0.conv1.weight"}, path)
    with pytest.raises(ModelFileError, match=r"got no weights for layer2\.0\.conv1\.weight; expected"):
        loaded(path)
    save_file({**weights, "layer2.0.conv1.weight": torch.zeros(3)}, path)
    with pytest.raises(ModelFileError, match=r"got weights that do not fit .*expected those of test_resnet"):
        loaded(path)
    with pytest.raises(ModelFileError, match=r"got '.*absent\.pth', which is no file"):
        loaded(tmp_path / "absent.pth")


def test_nothing_is_unpickled_but_tensors(tmp_path: Path) -> None:
    torch.save({"conv1.weight": Path("code")}, tmp_path / "weights.pth")
    with pytest.raises(ModelFileError, match=r"weights\.pth: got a file that cannot be read"):
        loaded(tmp_path / "weights.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelFileError, match=r"list\.pth: got a file that cannot be read"):
        loaded(tmp_path / "list.pth")


def test_numbers_that_do_not_fit_an_encoder_are_refused_by_name() -> None:
    with pytest.raises(
        PlanError, match=r"model\.widths: got 5 numbers; expected 4, one for each level of model\.depth 3"
    ):
        build_model(encoder="test_resnet", depth=3, widths=(8, 8, 8, 8, 8))
    with pytest.raises(UsageError, match=r"model\.output_stride: got 64; expected 32 or less"):
        build_model(encoder="test_resnet", stem=False, output_stride=64)
    with pytest.raises(PlanError, match=r"model\.output_stride: .* expected a power of 2"):
        build_model(encoder="test_resnet", stem=False, output_stride=3)


def test_what_cannot_be_downloaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", offline)
    place = r"https://huggingface\.co/timm/test_resnet\.r160_in1k/resolve/main/model\.safetensors"
    with pytest.raises(
        UsageError, match=rf"no route to host.*expected to download {place}\. .*model\.encoder_weights=PATH"
    ):
        loaded("pretrained")
    with pytest.raises(UsageError, match=r"expected a model that timm has weights for: resnet200 is none"):
        encoder_weights.make_pretrained_body(TimmModel("resnet200", {}, (), 32, None, True), 3, "pretrained", [])


# the journey


def colour_cells(folder: Path) -> Path:
    write_demo_data(folder, 2, cases=6, shape=(40, 52))
    for path in (folder / "images").iterdir():
        grey = np.asarray(Image.open(path).convert("L"))
        Image.fromarray(np.stack([grey, grey // 2, 255 - grey], axis=-1)).save(path)
    return folder


def test_the_journey_with_a_pretrained_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan, train two steps with a frozen encoder, predict, prune; loading a model needs no pretrained weights."""
    data, weights = colour_cells(tmp_path / "data"), tmp_path / "weights.safetensors"
    save_file(whole_model().state_dict(), weights)
    dials = {
        "model.encoder": "test_resnet",
        "model.depth": 3,
        "model.encoder_weights": str(weights),
        "train.freeze_encoder": 1.0,
    }
    tiny = {
        "train.batch": 2,
        "train.steps_per_epoch": 2,
        "train.validations": 1,
        "train.validation_cases": 1,
        "train.precision": "fp32",
        "predict.precision": "fp32",
    }
    answer = run_cli(
        "train", data, "--out", tmp_path / "run", "--epochs", 1, "--device", "cpu", *set_options({**dials, **tiny})
    )
    assert answer.code == 0, answer.stderr
    weights.unlink()
    network, header = load_model(tmp_path / "run" / "fold_0" / "model.safetensors")
    model, plan = whole_model(), header.plan
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in body_of(network).state_dict().items())
    mean, std = encoder_statistics("test_resnet")
    assert [each.mean for each in plan.data.normalization] == pytest.approx([255 * value for value in mean])
    assert [each.std for each in plan.data.normalization] == pytest.approx([255 * value for value in std])
    assert not any(each.per_case for each in plan.data.normalization)
    assert "training of test_resnet" in plan.reasons["data.normalization"]
    assert (plan.model.depth, plan.model.divisor, plan.train.patch) == (3, (8, 8), (40, 56))
    assert run_cli("prune", tmp_path / "run", "--out", tmp_path / "small.safetensors", "--depth", 2).code == 0
    image = np.random.default_rng(0).integers(0, 255, (40, 33, 3), np.uint8)
    full, pruned = (unetpp.load(path, device="cpu") for path in (tmp_path / "run", tmp_path / "small.safetensors"))
    assert np.array_equal(pruned.predict(image), full.predict(image, depth=2))
    assert read_header(tmp_path / "small.safetensors").parameters < header.parameters / 2


def test_a_plan_with_an_encoder_follows_from_what_it_gives() -> None:
    plan = plan_for(settings={"model.encoder": "test_coatnet"}, minutes=1)
    assert (plan.model.strides, plan.model.divisor, plan.train.patch, plan.predict.tile) == (
        ((2, 2),) * 5,
        (160, 160),
        (160, 160),
        (160, 160),
    )
    assert plan.model.widths[1:] == (32, 32, 64, 96, 128)
    assert "test_coatnet gives X[i, 0] at level i = 1, 2, 3, 4, 5" in plan.reasons["model.strides"]
    assert plan.data.normalization[0].per_case
    wide, narrow = (
        plan_for(settings={"model.encoder": "test_resnet", "model.depth": 2}, minutes=minutes).model
        for minutes in (1000, 0.01)
    )
    assert wide.widths[0] > narrow.widths[0]
    assert wide.widths[1:] == narrow.widths[1:] == (32, 32)


def test_intensities_are_the_encoders_where_the_images_are_colours_in_0_to_255() -> None:
    colours = ("Red", "green", "blue")
    assert intensity_rules.matches_pretraining(colours, 255)
    assert not any(
        intensity_rules.matches_pretraining(*case)
        for case in ((("image",), 255), (colours, 65535), (colours, 1.0), (("blue", "green", "red"), 255))
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"model.encoder": "resnet_34"}, "Did you mean resnet34"),
        ({"model.encoder": "test_resnet", "model.encoder_weights": "absent.pth"}, "which is no file"),
        ({"model.encoder_weights": "pretrained"}, "null without model.encoder"),
        ({"train.freeze_encoder": 0.5}, "0 and 1 without an encoder of timm"),
    ],
)
def test_what_cannot_work_is_said_when_planning(tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    answer = run_cli(
        "plan", colour_cells(tmp_path / "data"), "--out", tmp_path / "run", "--epochs", 1, *set_options(options)
    )
    assert answer.code == 2
    assert expected in answer.stderr
