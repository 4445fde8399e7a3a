"""Exported files: they predict as the network does, describe themselves, and replace a file only if they agree."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.plans import small_plan
from tests.tiny import run_cli

import unetpp
from unetpp.data.preprocess import prepare_image
from unetpp.deploy import export
from unetpp.deploy.export import Comparison, export_file
from unetpp.deploy.export.choice import describe_default
from unetpp.deploy.export.graph import SizeProbabilities, open_export
from unetpp.deploy.export.model_card import note_export
from unetpp.errors import DataError, MissingExtraError, ModelFileError, UsageError
from unetpp.formats.readers import open_image
from unetpp.infer.predictor import load_folds
from unetpp.measured import DepthRow
from unetpp.model.build import build_from_plan
from unetpp.model.file import load_model, save_model
from unetpp.model_notes import Metrics, Notes, Verdict
from unetpp.size_names import SizeNames

DOCS = Path(__file__).parent.parent.parent / "docs" / "export.md"
PACKAGES = {".onnx": ("onnxscript", "onnxruntime"), ".xml": ("onnxscript", "openvino"), ".pt2": ()}


@pytest.mark.parametrize(
    ("suffix", "package"), [(".onnx", "onnxscript"), (".onnx", "onnxruntime"), (".xml", "openvino")]
)
def test_a_missing_extra_is_named_before_the_model_is_read(
    suffix: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(suffix)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=package):
        export_file(tmp_path / "nothing.safetensors", tmp_path / f"out{suffix}")


def test_a_depth_that_a_model_does_not_have_is_refused_before_it_is_loaded(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unetpp.deploy.export.load_folds", None)
    with pytest.raises(UsageError, match=r"depth: got 7; expected one of \[1, 2\]"):
        unetpp.export(model, tmp_path / "out.pt2", depth=7)


def require(suffix: str, *more: str) -> None:
    for package in (*PACKAGES[suffix], *more):
        pytest.importorskip(package)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    plan = small_plan(patch=24).changed({"data.label_values": [0, 255]})
    save_model(
        tmp_path / "model.safetensors",
        build_from_plan(plan.model).state_dict(),
        plan,
        Notes(depths={1: DepthRow(dice=0.8, dice_interval=(0.7, 0.9)), 2: DepthRow(dice=0.9)}),
    )
    return tmp_path / "model.safetensors"


def said(pattern: str, comparison: str) -> float:
    """A number of a comparison in words."""
    (number,) = re.findall(pattern, comparison)
    return float(number)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(3):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 37), dtype=np.uint8)).save(tmp_path / "pictures" / f"{number}.png")
    return tmp_path / "pictures"


def test_the_verdict_is_of_the_full_network_where_the_file_holds_a_part() -> None:
    plan, verdict = small_plan(), Verdict(kind="good", reason="Good: Dice 0.9.", advice="")
    network, sizes = build_from_plan(plan.model), SizeNames.of_depths((1, 2))
    for numbers, finding in (((1,), "Of the full network, depth 2: good: Dice 0.9."), ((1, 2), verdict.reason)):
        exported = SizeProbabilities([network], replace(sizes, numbers=numbers))
        found = note_export(exported, plan, [Notes(verdict=verdict)], int8=False).verdict
        assert found and found.finding == finding


@pytest.mark.parametrize("suffix", PACKAGES)
def test_a_file_answers_as_the_network_at_any_size(suffix: str, model: Path, tmp_path: Path) -> None:
    require(suffix)
    done = export_file(model, tmp_path / f"out{suffix}", depth=1)
    assert said(r"same class in ([\d.]+)%", done.comparison) > 99.9
    network, header = load_model(model)
    answer, about = open_export(done.out)
    assert about["depth"] == 1
    assert about["classes"] == list(header.plan.data.classes)
    assert list(about["depths"]) == ["1"]
    assert len(about["normalization"]) == len(header.plan.data.channels)
    for shape in ((3, 1, 24, 24), (1, 1, 31, 42)):
        image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = network(image, depth=1).softmax(dim=1).numpy()
        np.testing.assert_allclose(answer(image.numpy(), [0])[0], expected, rtol=0, atol=1e-4)
    for source in (Path(unetpp.__file__).parent, Path(torch.__file__).parent, tmp_path):
        assert not any(str(source).encode() in path.read_bytes() for path in tmp_path.glob(f"out*{suffix}"))
    left = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert left == {"model.safetensors", f"out{suffix}", f"out{suffix}.md", *(["out.bin"] if suffix == ".xml" else [])}


@pytest.fixture
def folds(tmp_path: Path) -> Path:
    """A run of two folds."""
    plan = small_plan(patch=24, classes=3)
    for fold in range(2):
        torch.manual_seed(fold)
        (tmp_path / "run" / f"fold_{fold}").mkdir(parents=True)
        notes = Notes(fold=fold, depths={depth: DepthRow(dice=0.5 + 0.2 * fold, latency_ms=1.0) for depth in (1, 2)})
        place = tmp_path / "run" / f"fold_{fold}" / "model.safetensors"
        save_model(place, build_from_plan(plan.model).state_dict(), plan, notes)
    return tmp_path / "run"


@pytest.mark.parametrize("suffix", PACKAGES)
def test_depths_and_folds_go_into_one_file(suffix: str, folds: Path, tmp_path: Path) -> None:
    require(suffix)
    done = export_file(folds, tmp_path / f"out{suffix}", "all")
    assert (done.depths, done.folds) == ((1, 2), (0, 1))
    assert "depths 1, 2, the mean of folds 0, 1," in done.to_text()
    answer, about = open_export(done.out)
    assert about["depths"] == {"1": {"dice": 0.6}, "2": {"dice": 0.6}}
    networks, _, _ = load_folds(folds)
    image = torch.randn((2, 1, 31, 42), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = [sum(net(image, depth=depth).softmax(dim=1) for net in networks) / 2 for depth in (1, 2)]
    for heads in ([0, 1], [0], [1]):
        for head, found in zip(heads, answer(image.numpy(), heads), strict=True):
            np.testing.assert_allclose(found, expected[head].numpy(), rtol=0, atol=1e-4)
    card = done.card.read_text()
    assert "the probabilities of folds 0, 1 are averaged" in card
    assert "| 1 | 0.7000 |" in card
    assert not list(tmp_path.glob(".unetpp*"))


def test_where_no_depth_is_asked_for_it_is_said_which_it_is_and_which_is_recommended(
    model: Path, folds: Path, tmp_path: Path
) -> None:
    assert "Depth 2 is the default, that of the plan.\n" in export_file(model, tmp_path / "out.pt2").to_text()
    assert export_file(model, tmp_path / "out.pt2", depth=2).choice == ""
    rows = {depth: DepthRow(dice=0.9, latency_ms=float(depth)) for depth in (1, 2)}
    notes, sizes = [Notes(depths=rows)], SizeNames.of_depths((1, 2))
    said = describe_default(model, sizes, 2, notes, ["--out", "a b.onnx", "--int8"])
    command = f"unetpp export {model} --depth 1 --out 'a b.onnx' --int8"
    assert said == f"Depth 2 is the default, that of the plan; recommended is depth 1: {command}"
    assert describe_default(model, sizes, 1, notes, []).endswith("that of the plan, and it is recommended.")
    assert describe_default(model, replace(sizes, numbers=(2,)), 2, notes, []) == ""
    for fold, dice in enumerate((0.9, 0.5)):  # what all folds recommend, not one of them
        (folds / f"fold_{fold}" / "metrics.json").write_text(
            Metrics(
                depths={1: DepthRow(dice=dice, latency_ms=1.0), 2: DepthRow(dice=0.9, latency_ms=2.0)},
                cases=[{"id": f"c{fold}{n}", "depths": {1: dice, 2: 0.9}} for n in range(3)],
            ).to_json()
        )
    assert describe_default(folds, sizes, 2, notes * 2, []).endswith("that of the plan, and it is recommended.")


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_eight_bits_are_calibrated_on_images(
    suffix: str, model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(suffix, "nncf")
    monkeypatch.setattr(export, "AGREEMENT", 0.3)  # weights as they were drawn: near ties everywhere
    done = export_file(model, tmp_path / f"out{suffix}", int8=True, images=[pictures])
    assert done.int8
    assert 0 < said(r"differ by at most ([\d.e-]+\d)", done.comparison) < 0.5
    answer, about = open_export(done.out)
    assert about["int8"] is True
    assert answer(np.zeros((1, 1, 24, 24), np.float32), [0])[0].shape == (1, 2, 24, 24)
    kinds = re.findall(r'type="(FakeQuantize)"', done.out.read_text()) if suffix == ".xml" else _onnx_kinds(done.out)
    assert kinds


def _onnx_kinds(path: Path) -> list[str]:
    import onnx

    return [node.op_type for node in onnx.load(path).graph.node if node.op_type == "QuantizeLinear"]


def test_a_run_gives_the_images_and_their_labels(trained: Path, tmp_path: Path) -> None:
    done = export_file(trained / "fold_0" / "model.safetensors", tmp_path / "out.pt2")
    assert "(validation cases)" in done.comparison
    before = said(r"table: ([\d.]+) before", done.comparison)
    assert said(r"before, ([\d.]+) after", done.comparison) == pytest.approx(before, abs=1e-3)
    plan = load_model(trained / "fold_0" / "model.safetensors")[1].plan
    samples = export.find_samples(trained / "fold_0" / "model.safetensors", plan, [], calibrate=True)
    assert samples.calibrating
    assert len(samples.labels) == len(samples.comparing)
    other = plan.changed(
        {"data.normalization": [{"per_case": False, "std": 3.0}] * len(plan.data.channels)}
    )  # the run was prepared otherwise
    assert not export.find_samples(trained / "fold_0" / "model.safetensors", other, [], calibrate=True).labels


def test_the_card_says_what_was_measured(model: Path, tmp_path: Path) -> None:
    card = export_file(model, tmp_path / "out.pt2", depth=2).card.read_text()
    assert "| **2** (this depth) | 0.9000 |" in card
    assert "0.700 to 0.900" in card
    assert "random numbers" in card
    path = tmp_path / "out.pt2.md"
    path.write_text(card.partition("## Licence")[0] + "## Licence\n\nCC BY 4.0\n")
    assert export_file(model, tmp_path / "out.pt2", depth=1).card.read_text().endswith("## Licence\n\nCC BY 4.0\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": "out.tflite"}, r"out: got .*out\.tflite.*; expected a name that ends in \.onnx, \.pt2, \.xml"),
        ({"out": "out.pt2", "depth": 7}, "depth: got 7; expected one of"),
        ({"out": "out.pt2", "depth": "1,7"}, "depth: got 1,7; expected one of"),
        ({"out": "out.pt2", "depth": "deep"}, "depth: got deep; expected one of"),
        ({"out": "out.pt2", "int8": True}, r"int8: got a \.pt2 file"),
        ({"out": "out.onnx", "int8": True}, "expected images to calibrate with. Add `images`"),
        ({"out": "taken.xml"}, "whose weights go to taken.bin, a file of something else"),
    ],
)
def test_what_cannot_be_exported_is_refused(model: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    (tmp_path / "taken.bin").write_bytes(b"of another program")
    with pytest.raises(UsageError, match=message):
        export_file(model, tmp_path / options.pop("out"), **options)
    assert (tmp_path / "taken.bin").read_bytes() == b"of another program"


def test_images_that_cannot_be_read_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        export_file(model, tmp_path / "out.pt2", images=[tmp_path / "absent"])


NAN = float("nan")


@pytest.mark.parametrize(
    ("int8", "difference", "agreement", "message"),
    [
        (False, 0.1, 1.0, r"got a file whose probabilities differ by 0\.1"),
        (False, NAN, 1.0, "got a file whose probabilities differ by nan"),
        (True, 0.1, 0.9, r"got 8-bit integers whose segmentation has a Dice of 0\.900"),
        (True, NAN, 1.0, "got 8-bit integers"),
    ],
)
def test_a_file_that_does_not_agree_does_not_take_its_place(
    model: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    int8: bool,
    difference: float,
    agreement: float,
    message: str,
) -> None:
    out = tmp_path / ("out.onnx" if int8 else "out.pt2")
    out.write_bytes(b"what was there before")
    monkeypatch.setattr(export, "compare", lambda *_: Comparison("noise", 2, difference, 0.999, agreement, None, None))
    monkeypatch.setattr(export, "_write", lambda *_: None)
    with pytest.raises(ModelFileError, match=message):
        export_file(model, out, int8=int8, images=[pictures])
    assert out.read_bytes() == b"what was there before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", out.name, "pictures"]


def test_a_network_that_answers_nan_does_not_agree(model: Path, tmp_path: Path) -> None:
    network, header = load_model(model)
    samples = export.find_samples(model, header.plan, [], calibrate=False)
    nan = [np.full((1, 2, *samples.comparing[0].shape[1:]), np.nan, np.float32)]
    exported = SizeProbabilities([network], SizeNames((1,), network.depth))

    def predict(image: np.ndarray, heads: Any) -> list[np.ndarray]:
        return [each[..., : image.shape[2], : image.shape[3]] for each in nan]

    found = export.compare(exported, predict, samples, header.plan.data, lambda *_: None)
    assert np.isnan(found.difference)


@pytest.mark.parametrize("there", [True, False])
def test_weights_and_graph_take_their_places_together(there: bool, tmp_path: Path) -> None:
    drafts, out = tmp_path / "drafts", tmp_path / "out.xml"
    drafts.mkdir()
    for suffix in (".xml", ".bin"):
        (drafts / f"model{suffix}").write_text("new")
        if there:
            out.with_suffix(suffix).write_text("old")
    export._replace(drafts / "model.xml", out)
    assert {path.name: path.read_text() for path in tmp_path.glob("out.*")} == {"out.xml": "new", "out.bin": "new"}
    (drafts / "model.xml").write_text("newer")
    (drafts / "model.bin").write_text("newer")
    (tmp_path / "out.xml").unlink()
    (tmp_path / "out.xml").mkdir()  # nothing can take its place
    with pytest.raises(OSError, match="directory"):
        export._replace(drafts / "model.xml", out)
    assert (tmp_path / "out.bin").read_text() == "new"


def test_what_a_library_cannot_export_is_one_error(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("Constraints violated (L['x'].size()[2])!\n  - a page of details")

    monkeypatch.setitem(export.FORMATS, ".pt2", fails)
    with pytest.raises(
        ModelFileError,
        match=r"got a network that cannot be exported as \.pt2 \(Constraints violated .*\); expected one that can",
    ):
        export_file(model, tmp_path / "out.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_ten_lines_without_this_package_predict_the_same(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert 0 < expected.mean() < 1
    assert (found == 255 * expected).mean() > 0.999


@pytest.mark.parametrize(
    ("dims", "settings"), [(3, {}), (2, {"model.topology": "unet"}), (2, {"model.fusion": "mean"})]
)
def test_every_kind_of_network_is_exported(dims: int, settings: dict[str, Any], tmp_path: Path) -> None:
    plan = small_plan(dims, patch=20, classes=3).changed(settings)
    save_model(tmp_path / "model.safetensors", build_from_plan(plan.model).state_dict(), plan)
    done = export_file(tmp_path / "model.safetensors", tmp_path / "out.pt2")
    assert said(r"same class in ([\d.]+)%", done.comparison) > 99.9
    assert done.out.stat().st_size < 500_000  # no example images in it
