"""What cannot work is refused early, and what is damaged is never answered as sound."""

from __future__ import annotations

import os
import pickle
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import unetpp
from tests.tiny import run_cli, write_png
from unetpp.data.arrays import open_array
from unetpp.errors import DataError, ModelFileError, PlanError
from unetpp.infer.predictor import load_predictor
from unetpp.model.build import build_from_plan
from unetpp.model.file import save_model
from unetpp.model.foreign import read_foreign
from unetpp.plan import Plan


@pytest.mark.parametrize(
    "given",
    [
        ("--set", "train.gradient_clip=Infinity"),
        ("--set", "train.gradient_clip=1e999"),
        ("--set", "train.weight_decay=NaN"),
        ("--set", 'data.normalization=[{"mean":NaN}]'),
        ("--set", "train.head_weights=[1,Infinity]"),
        ("--set", "train.nope=1"),
        ("--set", "train.seed=123456789012345678901"),
        ("--seed", "1.5"),
        ("--seed", "-1"),
        ("--fold", "x"),
        ("--fold", "²"),
    ],
)
def test_settings_are_refused_before_files_are_read(given: tuple[str, str], tmp_path: Path) -> None:
    answer = run_cli("train", tmp_path / "absent", "--out", tmp_path / "run", *given)
    assert answer.code == 2
    assert "absent" not in answer.stderr
    assert "Unexpected" not in answer.stderr
    assert not (tmp_path / "run").exists()


def test_classes_of_one_name_are_refused(small_plan: Callable[..., Plan]) -> None:
    with pytest.raises(PlanError, match=r"data\.classes.*names that differ"):
        small_plan(num_classes=3).changed({"data.classes": ["background", "a", "a"]})


def test_equal_content_is_equal_bytes(small_plan: Callable[..., Plan], tmp_path: Path) -> None:
    plan = small_plan()
    weights = build_from_plan(plan.model).state_dict()
    paths = [tmp_path / f"{number}.safetensors" for number in range(5)]
    for path in paths:
        save_model(path, weights, plan)
    assert len({path.read_bytes() for path in paths}) == 1
    read = load_file(paths[0])
    assert all(torch.equal(read[name], value) for name, value in weights.items())


def test_an_output_that_is_not_finite_is_a_problem_of_its_image(make_model: Callable[..., Path]) -> None:
    predictor = load_predictor(make_model(), device="cpu", backend="torch")
    with torch.no_grad():
        next(predictor.network.parameters()).fill_(float("nan"))
    with pytest.raises(DataError, match="NaN or infinite") as caught:
        predictor.predict(np.zeros((20, 20), np.uint8))
    assert caught.value.find_topic() == "values"


def test_the_same_of_an_exported_file(make_model: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    out = tmp_path / "model.onnx"
    unetpp.export(make_model(), out)
    graph = onnx.load(out)
    weights = [each for each in graph.graph.initializer if len(each.dims) == 4]
    for tensor in weights:
        values = onnx.numpy_helper.to_array(tensor).copy()
        values.flat[0] = np.nan
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(graph, out)
    image = write_png(tmp_path / "image.png", np.random.default_rng(0).integers(0, 255, (20, 24)).astype(np.uint8))
    answer = run_cli("predict", out, image, "--out", tmp_path / "out")
    assert answer.code != 0
    assert not (tmp_path / "out/image.png").exists()


@dataclass
class _Runs:
    path: str

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_named_and_not_executed(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"state_dict": _Runs(str(tmp_path / "made"))}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelFileError, match="None of them was created"):
        read_foreign(path)
    path.write_bytes(pickle.dumps(_Runs(str(tmp_path / "made"))))
    with pytest.raises(ModelFileError):
        read_foreign(path)
    assert not (tmp_path / "made").exists()


def test_a_damaged_length_in_a_checkpoint_of_the_old_format_reserves_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"weight": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_foreign(path)["weight"], torch.ones(3))
    content = path.read_bytes()
    place = content.index(b"X")  # an opcode of pickle: a text, whose length follows
    path.write_bytes(content[: place + 1] + (2**31 - 1).to_bytes(4, "little") + content[place + 5 :])
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match="truncated or no checkpoint"):
            read_foreign(path)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(1, 50, 3), (3, 50, 1)])
def test_channels_of_thin_arrays(channels: int, shape: tuple[int, ...], small_plan: Callable[..., Plan]) -> None:
    names = ["red", "green", "blue"][:channels]
    data = small_plan().data.model_copy(update={"channels": tuple(names)})
    assert open_array(np.zeros(shape, np.uint8), data).shape[0] == channels


@pytest.mark.parametrize("name", ["no_zip.npz", "crc.npz", "zlib.npz", "log.jsonl", "metrics.json"])
def test_a_damaged_run_is_reported(name: str, cases: Path, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("cache", "data"))
    place = run / "fold_0" / ("views/best.npz" if name.endswith(".npz") else name)
    place.write_bytes((cases / "bad/report-of-a-damaged-run" / name).read_bytes())
    answer = run_cli("report", run)
    assert answer.code == 0
    assert "cannot be read; the report leaves it out" in answer.stdout
    assert "Left out, because it cannot be read" in (run / "report.html").read_text(encoding="utf-8")
