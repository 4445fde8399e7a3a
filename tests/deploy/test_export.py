"""Exported files answer as the network does, say what they are, and never replace anything unless they agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.plans import small_plan
from tests.tiny import run_cli

from unetpp.data.preprocess import prepare_image
from unetpp.data.readers import open_image
from unetpp.deploy import export
from unetpp.deploy.export import Comparison, export_file
from unetpp.deploy.export.runtimes import open_exported
from unetpp.errors import DataError, ModelFileError, UsageError
from unetpp.model.build import from_plan
from unetpp.model.file import load_model, save_model

DOCS = Path(__file__).parent.parent.parent / "docs" / "export.md"
PACKAGES = {".onnx": ("onnxscript", "onnxruntime"), ".xml": ("onnxscript", "openvino"), ".pt2": ()}


def require(suffix: str, *more: str) -> None:
    for package in (*PACKAGES[suffix], *more):
        pytest.importorskip(package)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    plan = small_plan(patch=24)
    save_model(tmp_path / "model.safetensors", from_plan(plan.model).state_dict(), plan, {"depths": {"1": {"dice": 0.8, "dice_interval": [0.7, 0.9]}, "2": {"dice": 0.9}}})
    return tmp_path / "model.safetensors"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(3):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 37), dtype=np.uint8)).save(tmp_path / "pictures" / f"{number}.png")
    return tmp_path / "pictures"


@pytest.mark.parametrize("suffix", PACKAGES)
def test_a_file_answers_as_the_network_at_any_size(suffix: str, model: Path, tmp_path: Path) -> None:
    require(suffix)
    done = export_file(model, tmp_path / f"out{suffix}", depth=1)
    assert done.comparison.same_classes > 0.999
    network, header = load_model(model)
    answer, about = open_exported(done.out)
    assert about["depth"] == 1
    assert about["classes"] == list(header.plan.data.classes)
    assert len(about["normalization"]) == len(header.plan.data.channels)
    for shape in ((3, 1, 24, 24), (1, 1, 31, 42)):
        image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = network(image, depth=1).softmax(dim=1).numpy()
        np.testing.assert_allclose(answer(image.numpy()), expected, rtol=0, atol=1e-4)
    left = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert left == {"model.safetensors", f"out{suffix}", f"out{suffix}.md", *(["out.bin"] if suffix == ".xml" else [])}


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_eight_bits_are_calibrated_on_images(suffix: str, model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require(suffix, "nncf")
    monkeypatch.setattr(export, "SAME_CLASSES", 0.5)  # weights as they were drawn: near ties everywhere
    done = export_file(model, tmp_path / f"out{suffix}", int8=True, images=[pictures])
    assert done.int8
    assert 0 < done.comparison.difference < 0.5
    answer, about = open_exported(done.out)
    assert about["int8"] is True
    assert answer(np.zeros((1, 1, 24, 24), np.float32)).shape == (1, 2, 24, 24)
    kinds = re.findall(r'type="(FakeQuantize)"', done.out.read_text()) if suffix == ".xml" else _onnx_kinds(done.out)
    assert kinds


def _onnx_kinds(path: Path) -> list[str]:
    import onnx

    return [node.op_type for node in onnx.load(path).graph.node if node.op_type == "QuantizeLinear"]


def test_a_run_gives_the_images_and_their_labels(trained: Path, tmp_path: Path) -> None:
    done = export_file(trained / "fold_0" / "model.safetensors", tmp_path / "out.pt2")
    assert done.comparison.origin == "validation cases"
    assert done.comparison.dice == pytest.approx(done.comparison.dice_before, abs=1e-3)
    samples = export.find_samples(trained / "fold_0" / "model.safetensors", load_model(trained / "fold_0" / "model.safetensors")[1].plan, [])
    assert samples.calibrating
    assert len(samples.labels) == len(samples.comparing)


def test_the_card_says_what_was_measured(model: Path, tmp_path: Path) -> None:
    card = export_file(model, tmp_path / "out.pt2", depth=2).card.read_text()
    assert "| **2** (this file) | 0.900 |" in card
    assert "0.700 to 0.900" in card
    assert "random numbers" in card


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": "out.tflite"}, r"--out: got .*out\.tflite.*; expected a name that ends in \.onnx, \.pt2, \.xml"),
        ({"out": "out.pt2", "depth": 7}, "depth: got 7; expected one of"),
        ({"out": "out.pt2", "int8": True}, r"--int8: got a \.pt2 file"),
        ({"out": "out.onnx", "int8": True}, "expected images to calibrate with. Add --images"),
    ],
)
def test_what_cannot_be_exported_is_refused(model: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        export_file(model, tmp_path / options.pop("out"), **options)


def test_images_that_cannot_be_read_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        export_file(model, tmp_path / "out.pt2", images=[tmp_path / "absent"])


@pytest.mark.parametrize("wrong", [Comparison("noise", 2, 0.1, 0.999, None, None), Comparison("noise", 2, 0.1, 0.9, None, None)])
def test_a_file_that_does_not_agree_does_not_take_its_place(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Comparison) -> None:
    out = tmp_path / "out.pt2"
    out.write_bytes(b"what was there before")
    monkeypatch.setattr(export, "compare", lambda *_: wrong)
    with pytest.raises(ModelFileError, match=r"got a file whose probabilities differ by 0\.1"):
        export_file(model, out)
    assert out.read_bytes() == b"what was there before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "out.pt2"]


def test_foreign_graphs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.pt2"
    torch.export.save(torch.export.export(torch.nn.Identity(), (torch.zeros(1),)), path)
    with pytest.raises(ModelFileError, match="without unetpp's description"):
        open_exported(path)


def test_ten_lines_without_this_package_predict_the_same(model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require(".onnx")
    code = re.search(r"^```python\n(.*?)^```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert code
    assert "unetpp" not in code[1].replace('["unetpp"]', "")
    monkeypatch.chdir(tmp_path)
    assert run_cli("export", model, "--out", "model.onnx").code == 0
    (pictures / "0.png").rename("image.png")
    exec(compile(code[1], "docs/export.md", "exec"), {})
    network, header = load_model(model)
    image = prepare_image(open_image(Path("image.png")), header.plan.data)
    with torch.inference_mode():
        expected = network(torch.from_numpy(image.read((slice(0, 40), slice(0, 37))))[None]).argmax(1)[0].numpy()
    found = np.asarray(Image.open("prediction.png"))
    assert (found == expected).mean() > 0.999
