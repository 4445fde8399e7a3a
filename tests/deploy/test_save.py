"""A network of one's own loop becomes a model file that every verb takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import run_cli, write_png
from torch import nn

import unetpp
from unetpp.errors import PlanError, UsageError

IMAGE = np.random.default_rng(0).integers(0, 255, (32, 32)).astype(np.uint8)


def network(**fields: Any) -> unetpp.UNetPlusPlus:
    torch.manual_seed(0)
    return unetpp.build_model(**{"topology": "unet++", "widths": (4, 6, 8), **fields}).eval()


@torch.inference_mode()
def expected(net: unetpp.UNetPlusPlus, values: np.ndarray, depth: int | None = None) -> np.ndarray:
    logits = net(torch.from_numpy(values).float()[None, None], depth)[0]
    return (logits[0] > 0 if len(logits) == 1 else logits.argmax(0)).numpy()


@pytest.mark.parametrize(
    ("normalization", "scale"),
    [
        ("per_case", lambda values: (values - values.mean()) / values.std()),
        ("none", lambda values: values),
        ((20, 255), lambda values: (values - 20) / 255),
        (unetpp.Normalization(per_case=False, upper=100, std=50), lambda values: np.minimum(values, 100) / 50),
        ([{"per_case": False, "std": 7}], lambda values: values / 7),
        ("ct", lambda values: np.clip(values, -1000, 1000) / 1000),
    ],
)
@pytest.mark.parametrize("out_channels", [1, 2, 4])
def test_it_predicts_what_the_network_does(tmp_path: Path, normalization: Any, scale: Any, out_channels: int) -> None:
    net = network(out_channels=out_channels)
    path = unetpp.save(net, tmp_path / "m.safetensors", normalization=normalization, tile=32)
    predictor = unetpp.load(path, backend="torch")
    for depth in (1, 2):
        found = predictor.predict(IMAGE, depth=depth)
        np.testing.assert_array_equal(found, expected(net, scale(IMAGE.astype(np.float64)), depth))


def test_names_and_sizes_are_in_the_plan(tmp_path: Path) -> None:
    path = unetpp.save(
        network(dims=3, in_channels=2, out_channels=3),
        tmp_path / "m.safetensors",
        classes=["background", "liver", "tumor"],
        channels=["CT", "PET"],
        normalization=["ct", "per_case"],
        tile=[16, 32, 32],
        spacing_mm=(3, 1, 1),
        set={"data.label_values": [0, 6, 9]},
    )
    plan = unetpp.info(path).plan
    assert plan.data.classes == ("background", "liver", "tumor")
    assert plan.data.channels == ("CT", "PET")
    assert [each.per_case for each in plan.data.normalization] == [False, True]
    assert plan.data.spacing_mm == (3, 1, 1)
    assert plan.data.label_values == (0, 6, 9)
    assert plan.predict.tile == (16, 32, 32)


def test_what_wraps_a_network_is_removed(tmp_path: Path) -> None:
    net = network()
    for wrapped in (torch.optim.swa_utils.AveragedModel(net), nn.DataParallel(net), torch.compile(net)):
        path = unetpp.save(wrapped, tmp_path / "m.safetensors", tile=32)
        np.testing.assert_array_equal(unetpp.load(path).predict(IMAGE), unetpp.load(path).predict(IMAGE))
    assert unetpp.save(net.bfloat16(), tmp_path / "half.safetensors").exists()


@pytest.mark.parametrize("keep_heads", [True, False])
def test_a_pruned_network_is_saved_pruned(tmp_path: Path, keep_heads: bool) -> None:
    path = unetpp.save(network(widths=(4, 4, 4, 4)).prune(2, keep_heads), tmp_path / "m.safetensors")
    assert unetpp.load(path).depths == ((1, 2) if keep_heads else (2,))


def test_other_verbs_take_it(tmp_path: Path) -> None:
    model = unetpp.save(network(), tmp_path / "m.safetensors", classes=["background", "nucleus"], tile=32)
    write_png(tmp_path / "images" / "one.png", IMAGE)
    for words in (
        ("predict", model, tmp_path / "images", "--out", tmp_path / "out"),
        ("prune", model, "--depth", 1, "--out", tmp_path / "small.safetensors"),
        ("info", model),
        ("export", model, "--out", tmp_path / "m.pt2"),
    ):
        answer = run_cli(*words)
        assert answer.code == 0, answer.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"classes": ["nucleus"]}, r"classes: got \['nucleus'\]; expected 2 names, background first"),
        ({"classes": "nucleus"}, "classes: got 'nucleus'"),
        ({"normalization": "minmax"}, r"normalization: got 'minmax'; expected 'per_case', 'none', 'ct'"),
        ({"normalization": ["ct", "ct"]}, "normalization: got 2 entries; expected 1, one for each channel"),
        ({"channels": ["a", "b"]}, "got 2 names; expected 1, one for each channel"),
        ({"tile": (8, 8, 8)}, "tile: got 3 numbers; expected 2"),
        ({"spacing_mm": (1,)}, "spacing_mm: got 1 numbers; expected 2"),
        ({"set": {"model.depth": 7}}, r"model\.depth"),
    ],
)
def test_what_does_not_fit_is_one_message(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises((UsageError, PlanError), match=said):
        unetpp.save(network(), tmp_path / "m.safetensors", **options)
    assert list(tmp_path.iterdir()) == []


def test_only_networks_of_build_model_as_they_were_built(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"got Conv2d; expected a network of `unetpp\.build_model`"):
        unetpp.save(nn.Conv2d(1, 1, 1), tmp_path / "m.safetensors")
    with pytest.raises(UsageError, match="ending in"):
        unetpp.save(network(), tmp_path / "m.pth")
    changed, infinite = network(), network()
    changed.heads["2"] = nn.Conv2d(4, 7, 1)
    infinite.heads["2"].weight.data[:] = torch.nan
    with pytest.raises(UsageError, match=r"changed after it was built \(heads\.2\.bias, heads\.2\.weight\)"):
        unetpp.save(changed, tmp_path / "m.safetensors")
    with pytest.raises(UsageError, match=r"NaN or infinite \(heads\.2\.weight\)"):
        unetpp.save(infinite, tmp_path / "m.safetensors")


def test_an_image_on_another_scale_than_the_loop_had_is_noticed(tmp_path: Path) -> None:
    predictor = unetpp.load(unetpp.save(network(), tmp_path / "m.safetensors", normalization=(0, 255), tile=32))
    predictor(IMAGE)
    with pytest.warns(UserWarning, match=r"image: values: .* expects about 0 to 255"):
        found = predictor.predict(IMAGE / 255, probabilities=True)
    assert "0 to 255" in found.outside[0]


def test_arguments_that_are_something_else_are_one_message(tmp_path: Path) -> None:
    net, wrong = network(), tmp_path / "m.safetensors"
    with pytest.raises(UsageError, match="The network comes first"):
        unetpp.save(str(wrong), net)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="path: got UNetPlusPlus"):
        unetpp.save(net, net)  # type: ignore[arg-type]
    for given in (net, None):
        with pytest.raises(UsageError, match=r"path: got .*`unetpp\.save\(net,"):
            unetpp.load(given)  # type: ignore[arg-type]
    predictor = unetpp.load(unetpp.save(net, wrong, tile=32))
    with pytest.raises(UsageError, match=r"threshold: got an unknown argument of Predictor\.predict;"):
        predictor(IMAGE, threshold=0.5)  # type: ignore[call-overload]


def test_info_does_not_invent_a_training(tmp_path: Path) -> None:
    described = unetpp.info(unetpp.save(network(preset="paper"), tmp_path / "m.safetensors"))
    assert "trained on: unknown (own loop)" in str(described)
    found = described.to_dict()["plan"]
    assert (found["train"], found["model"]["preset"]) == (None, "paper")
    exported = unetpp.export(described.model, tmp_path / "m.pt2")
    assert "trained on: unknown (own loop)" in str(unetpp.info(exported.out))
    assert "- Trained on: unknown (own loop)" in exported.card.read_text()
