"""A model with shells through every verb: sizes by name, each of them what the network cut to it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import toy_plan
from tests.tiny import TINY, call_learned, run_cli, write_png

import unetpp
from unetpp.data.demo import write_demo_data
from unetpp.deploy import export
from unetpp.deploy.prune import plan_at_size
from unetpp.errors import PlanError, UsageError
from unetpp.infer.options import PredictOptions
from unetpp.infer.predictor import Predictor
from unetpp.layouts.dataset import Case
from unetpp.measure.folder_scores import evaluate_folders
from unetpp.measured import DepthRow
from unetpp.model.build import build_from_plan
from unetpp.model.file import load_model, save_model
from unetpp.model.weight_count import count_size_weights
from unetpp.model_notes import Notes
from unetpp.plan import Plan

SHELLS = {"model.widths": [4, 8, 8], "model.shells": [0.5, 1], "model.norm": "instance"}
NAMES = {1: "1x2", 2: "2x2", 3: "1x4", 4: "2x4"}
"""Sizes of these networks, by number."""
COSTS = {1: (0.80, 1.0), 2: (0.90, 2.0), 3: (0.85, 3.0), 4: (0.92, 5.0)}
"""Dice and milliseconds: 1x4 is slower and worse than 2x2."""


def shelled_plan(**settings: Any) -> Plan:
    return toy_plan().changed({**SHELLS, "predict.size": "2", **settings})


def write_model(folder: Path, name: str = "model.safetensors", measured: bool = True) -> Path:
    plan, line = shelled_plan(), {"expected_dice_slope": 0.5, "review_below": 0.99}
    rows = {
        number: DepthRow(dice=dice, latency_ms=ms, expected_dice_offset=number / 100, **line)
        for number, (dice, ms) in COSTS.items()
    }
    torch.manual_seed(0)
    save_model(
        folder / name, build_from_plan(plan.model).state_dict(), plan, Notes(depths=rows) if measured else Notes()
    )
    return folder / name


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("shells"))


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(37, 41)).astype(np.float32)


@pytest.mark.parametrize(
    ("given", "number"),
    [
        ({}, 4),
        ({"depth": 1}, 3),
        ({"depth": "2"}, 4),
        ({"size": 1}, 3),
        ({"size": "1x2"}, 1),
        ({"size": "small"}, 1),
        ({"size": "Medium"}, 2),
        ({"depth": "large"}, 4),
    ],
)
def test_a_size_is_predicted_by_the_network_cut_to_it(
    given: dict[str, Any], number: int, model: Path, image: np.ndarray
) -> None:
    network, header = load_model(model)
    cut = Predictor([network.prune(number)], plan_at_size(header.plan, number))
    found = unetpp.load(model, "cpu").predict(image, probabilities=True, **given)
    assert (found.depth, found.size) == (number, NAMES[number])
    np.testing.assert_allclose(found.probabilities, cut.predict(image, probabilities=True).probabilities, atol=1e-5)


def test_all_sizes_are_predicted_in_one_pass_by_name(model: Path, image: np.ndarray) -> None:
    predictor = unetpp.load(model, "cpu")
    found = predictor.predict(image, size="all")
    assert list(found) == list(NAMES.values())
    for name, segmentation in found.items():
        np.testing.assert_array_equal(segmentation, predictor.predict(image, size=name))
    assert "sizes 1x2 to 2x4" in repr(predictor)
    every = predictor.predict(image, size="all", probabilities=True)
    mean = predictor.predict(image, size="mean", probabilities=True)
    np.testing.assert_allclose(
        mean.probabilities, np.mean([each.probabilities for each in every.values()], 0), atol=1e-5
    )
    assert ("size 2x2," in repr(every["2x2"])) and "depth mean," in repr(mean)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
@pytest.mark.parametrize("number", [2, 3])
def test_disagreement_is_that_between_the_sizes_that_a_size_holds(
    backend: str, number: int, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip(backend)
    case = Case(
        "a", (write_png(tmp_path / "a.png", np.random.default_rng(0).integers(256, size=(37, 41), dtype="u1")),)
    )
    network, header = load_model(model)
    kept = network.prune(number, keep_heads=True)
    predict = header.plan.predict.model_copy(update={"depth": kept.head_depths[-1]})
    plan = header.plan.model_copy(update={"model": kept.plan, "predict": predict})
    (expected,) = (
        Predictor([kept], plan).predict_case(case, PredictOptions(uncertainty="disagreement", tta=True)).values()
    )
    predictor = Predictor([network], header.plan, backend=backend)
    options = PredictOptions(uncertainty="disagreement", tta=True, size=NAMES[number])
    found = predictor.predict_case(case, options)[number]
    assert found.uncertainty is not None and expected.uncertainty is not None
    np.testing.assert_allclose(found.uncertainty, expected.uncertainty, atol=1e-4)


def test_files_are_written_and_judged_by_size(model: Path, tmp_path: Path) -> None:
    for number in range(2):
        values = np.random.default_rng(number).integers(256, size=(37, 41), dtype="u1")
        write_png(tmp_path / "images" / f"{number}.png", values)
    said = run_cli("predict", model, tmp_path / "images", "--out", tmp_path / "all", "--size", "all", "--overlay")
    assert said.code == 0, said.stderr
    assert "2 images segmented at 4 sizes" in said.stdout and "(size 1x2, 2x2, 1x4, 2x4)" in said.stdout
    for number, name in NAMES.items():
        folder = tmp_path / "all" / f"size_{name}"
        record = json.loads((folder / "predictions.json").read_text())
        assert (record["depth"], record["size"], record["size_number"]) == (int(name[0]), name, number)
        assert (folder / "predictions.csv").read_text().startswith("file,class") and (
            folder / "overlays" / "0.png"
        ).is_file()
        entry = record["cases"]["0.png"]
        assert entry["expected_dice"] == pytest.approx(0.5 * entry["confidence"] + number / 100) and entry["review"]
    assert "expected Dice at size 1x2: " in said.stdout
    said = run_cli("predict", model, tmp_path / "images", "--out", tmp_path / "one", "--size", "small", "--json")
    assert said.json["depths"] == ["1x2"]
    assert (tmp_path / "one" / "0.png").read_bytes() == (tmp_path / "all" / "size_1x2" / "0.png").read_bytes()
    said = run_cli("predict", model, tmp_path / "images", "--out", tmp_path / "one", "--depth", "1", "--dry-run")
    assert "at size 1x4" in said.stdout
    scores = evaluate_folders(tmp_path / "all", tmp_path / "one").metrics.depths
    assert [(row.depth, row.channels) for row in scores.values()] == [(1, 2), (2, 2), (1, 4), (2, 4)]
    assert list(scores) == [1, 2, 3, 4] and scores[1].dice == 1


@pytest.mark.parametrize(("size", "kept"), [("small", "1x2"), ("2x2", "2x2"), ("1", "1x4"), ("large", "2x4")])
def test_a_model_is_pruned_to_a_size(size: str, kept: str, model: Path, image: np.ndarray, tmp_path: Path) -> None:
    out = tmp_path / "small.safetensors"
    said = run_cli("prune", model, "--out", out, "--size", size)
    assert said.code == 0 and f"Size {kept}: as requested; validation Dice" in said.stdout, said.stderr
    network, header = load_model(out)
    depth, channels = map(int, kept.split("x"))
    assert (header.plan.model.depth, header.plan.model.widths[0], network.head_depths) == (depth, channels, (depth,))
    assert header.plan.model.shells == (1.0,) and header.plan.predict.depth == depth
    assert (header.notes.pruned_from_depth, header.notes.pruned_from_size) == (2, "2x4")
    number = {name: number for number, name in NAMES.items()}[kept]
    (row,) = header.notes.depths.values()
    assert (row.dice, row.channels, *header.notes.depths) == (COSTS[number][0], None, depth)
    found = unetpp.load(out, "cpu").predict(image, probabilities=True)
    whole = unetpp.load(model, "cpu").predict(image, size=kept, probabilities=True)
    np.testing.assert_allclose(found.probabilities, whole.probabilities, atol=1e-5)
    assert f"{count_size_weights(load_model(model)[0], number):,} parameters" in said.stdout


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_an_exported_file_holds_sizes_by_name(suffix: str, model: Path, image: np.ndarray, tmp_path: Path) -> None:
    for package in {".onnx": ("onnxscript", "onnxruntime"), ".xml": ("onnxscript", "openvino")}.get(suffix, ()):
        pytest.importorskip(package)
    file = tmp_path / f"some{suffix}"
    said = run_cli("export", model, "--out", file, "--size", "2x2,large,1x2")
    assert said.code == 0, said.stderr
    assert f"{file}: sizes 1x2, 2x2, 2x4, " in said.stdout
    card = Path(f"{file}.md").read_text()
    assert "| **medium (2x2)** (in this file) |" in card and "| 1x4 * |" in card
    assert "Sizes: small, 0.800 in 1.0 ms; medium," in card and "\\* left out: 1x4, slower and worse than" in card
    assert "sizes 1x2, 2x2, 2x4 (without --size: 2x4)" in run_cli("info", file).stdout
    if suffix == ".pt2":
        return
    assert b"probabilities_2x2" in file.read_bytes()
    exported, network = unetpp.load(file), unetpp.load(model, "cpu")
    assert exported.depths == (1, 2, 4)
    for size in ("small", "2x2", "2"):
        expected = network.predict(image, size=size, probabilities=True)
        found = exported.predict(image, size=size, probabilities=True)
        assert found.size == expected.size
        assert np.abs(found.probabilities - expected.probabilities).max() < (1e-3 if suffix == ".onnx" else 0.05)
    with pytest.raises(UsageError, match=r"size: got '1x4' .*expected one of small \(1x2\), .*, the sizes in the file"):
        exported.predict(image, size="1x4")


def test_a_hub_card_names_the_sizes(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    unetpp.HubModel(model).save_pretrained(tmp_path / "repository")
    card = (tmp_path / "repository" / "README.md").read_text()
    assert 'predict(image, size="1x2")`, 1x2 to 2x4' in card and "at size 2x4" in card


def test_a_network_of_ones_own_loop_has_sizes(image: np.ndarray, tmp_path: Path) -> None:
    network = unetpp.build_model(
        topology="unet++", in_channels=1, widths=(4, 8, 8), shells=(0.5, 1), norm="instance", out_channels=2
    ).eval()
    predictor = unetpp.load(unetpp.save(network, tmp_path / "own.safetensors"), "cpu")
    np.testing.assert_array_equal(predictor.predict(image), predictor.predict(image, size="2x4"))


def test_bad_sizes_are_told_with_what_there_is(model: Path, image: np.ndarray, tmp_path: Path) -> None:
    predictor, single = unetpp.load(model, "cpu"), tmp_path / "single.safetensors"
    with pytest.raises(
        UsageError, match=r"size: got '5x8'; expected .* or one of small \(1x2\), medium \(2x2\), 1x4, large"
    ):
        predictor.predict(image, size="5x8")
    with pytest.raises(UsageError, match=r"got both \(1 and 2x2\); expected one of them"):
        predictor.predict(image, depth=1, size="2x2")
    unetpp.prune(model, single, size="2x2")
    with pytest.raises(UsageError, match=r"size: got 'small'; expected .*one of \[2\]"):
        unetpp.load(single, "cpu").predict(image, size="small")
    for verb, out in (("prune", "a.safetensors"), ("export", "a.pt2")):
        for given, message in (
            (["--size", "9x9"], "got '?9x9'?; expected one of"),
            (["--depth", "1", "--size", "1x2"], "both"),
        ):
            said = run_cli(verb, model, "--out", tmp_path / out, *given)
            assert said.code == 2 and re.search(message, said.stderr)
    assert not list(tmp_path.glob("a.*"))


def test_a_plan_takes_the_name_of_a_size_and_keeps_its_number() -> None:
    plan = shelled_plan(**{"predict.size": "2x2"})
    assert (plan.predict.depth, plan.predict.size) == (2, None)
    assert Plan.from_json(plan.to_json()) == plan and plan.reasons["predict.depth"]
    assert shelled_plan(**{"predict.depth": 3, "predict.size": None}).predict.depth == 3
    with pytest.raises(PlanError, match=r"predict\.size: .* expected one of 1x2, 2x2, 1x4, 2x4"):
        shelled_plan(**{"predict.size": "3x2"})
    with pytest.raises(PlanError, match=r"predict\.depth: .* up to 4"):
        shelled_plan(**{"predict.depth": 5, "predict.size": None})


def test_from_a_training_to_early_exit_fine_tuning_and_integers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_demo_data(tmp_path / "data", 2, cases=15, shape=(32, 40))
    tiny = {key: value for key, value in TINY.items() if key != "predict.depth"} | SHELLS
    unetpp.train(tmp_path / "data", tmp_path / "run", epochs=1, device="cpu", set=tiny)
    model = tmp_path / "run" / "fold_0" / "model.safetensors"
    assert load_model(model)[1].plan.predict.depth == 4
    call_learned(model)
    said = run_cli("adapt", tmp_path / "run", "--backend", "torch")
    assert said.code == 0, said.stderr
    assert "size 1x2" in said.stdout or "saves no time" in said.stdout
    images = tmp_path / "data" / "images"
    said = run_cli("predict", model, images, "--out", tmp_path / "auto", "--size", "auto", "--max-drop", 99)
    assert said.code == 0 and "size of the tiles: " in said.stdout
    said = run_cli("prune", model, "--out", tmp_path / "small.safetensors", "--size", "2x2", "--minutes", 0.01)
    assert said.code == 0 and "fine-tuned" in said.stdout.lower(), said.stderr
    pytest.importorskip("nncf")
    monkeypatch.setattr(export, "AGREEMENT", 0.5)  # a network of three steps
    said = run_cli("export", model, "--out", tmp_path / "all.xml", "--size", "2x2,2x4", "--int8")
    assert said.code == 0 and "sizes 2x2, 2x4, 8-bit integers" in said.stdout, said.stderr
