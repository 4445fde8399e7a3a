"""Prediction without torch, with the packages that docs/export.md lists and no others."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from tests.plans import small_plan
from unetpp.deploy.export import export_file
from unetpp.infer.predictor import load_predictor
from unetpp.model.build import build_from_plan
from unetpp.model.file import save_model

ROOT = Path(__file__).parents[1]
COMMANDS = [
    shlex.split(line, comments=True)
    for line in (ROOT / "docs" / "export.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("    pip install ")
]
LISTED = next(words[2:] for words in COMMANDS if "onnxruntime" in words)
BLOCKED = """
import json, sys
sys.modules |= dict.fromkeys(json.loads(sys.argv[1]))
from unetpp.cli import run
sys.exit(run(sys.argv[2:]))
"""


def block(distributions: Sequence[str], code: str = BLOCKED) -> list[str]:
    """The command of a Python that has these distributions, and those that they need, and no others."""
    found: set[str] = {"unetpp"}
    waiting = [*distributions]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            needed = map(Requirement, importlib.metadata.requires(name) or [])
            waiting += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    owners = importlib.metadata.packages_distributions().items()
    blocked = [module for module, names in owners if not found & {canonicalize_name(name) for name in names}]
    assert {"torch", "scipy"} - {*distributions} <= {*blocked}
    return [sys.executable, "-c", code, json.dumps(blocked)]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, np.ndarray]]:
    """For images and for volumes: an exported file with its image beside it, and what the network predicts."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    found = {}
    for dims, name in ((2, "image.png"), (3, "volume.nii.gz")):
        folder = tmp_path_factory.mktemp(f"exported{dims}")
        torch.manual_seed(0)
        plan = small_plan(dims, patch=16, settings={"data.normalization": [{"per_case": True}]})
        save_model(folder / "model.safetensors", build_from_plan(plan.model).state_dict(), plan)
        file = export_file(folder / "model.safetensors", folder / "model.onnx").out
        array = np.random.default_rng(0).integers(0, 255, (24, 21, 18)[:dims]).astype(np.uint8)
        if dims == 2:
            Image.fromarray(array).save(folder / name)
        else:
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / name)
        found[name] = (file, load_predictor(folder / "model.safetensors", "cpu", "torch").predict(folder / name))
    return found


def require_prediction(command: list[str], file: Path, name: str, expected: np.ndarray, out: Path) -> None:
    """Predict in another process and compare."""
    image = file.with_name(name)
    done = subprocess.run([*command, "predict", file, image, "--out", out, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (written,) = map(Path, json.loads(done.stdout)["files"])
    found = Image.open(written) if name.endswith(".png") else nibabel.load(written).dataobj.get_unscaled().T
    assert (np.asarray(found) == expected).mean() > 0.995


@pytest.mark.parametrize("name", ["image.png", "volume.nii.gz"])
def test_the_listed_packages_suffice(name: str, exports: dict[str, tuple[Path, np.ndarray]], tmp_path: Path) -> None:
    command = block(LISTED)
    require_prediction(command, exports[name][0], name, exports[name][1], tmp_path / "out")
    done = subprocess.run([*command, "info", exports[name][0]], capture_output=True, text=True)
    assert (done.returncode, "depth 2" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize("packages", [["scipy"], []])
def test_masks_are_compared_without_torch(packages: list[str], tmp_path: Path) -> None:
    for folder in ("found", "labels"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.eye(24, dtype=np.uint8) * 255).save(tmp_path / folder / "a.png")
    command = [*block([*LISTED, *packages]), "evaluate", tmp_path / "found", tmp_path / "labels", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if packages:
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["mean"]["dice"] == 1
    else:
        assert done.returncode == 2 and "needs the package scipy, which is not installed" in done.stderr


def test_a_verb_that_needs_torch_says_so(tmp_path: Path) -> None:
    lines = [
        "demo --out x",
        "plan x --out y",
        "train x --out y",
        "report x",
        "predict model.safetensors x --out y",
        "prune model.safetensors --out y.safetensors",
        "select x --out y",
        "adapt x",
        "export model.safetensors --out y.onnx",
        "import x --out y.safetensors",
    ]
    (tmp_path / "x").mkdir()
    plan = small_plan()
    save_model(tmp_path / "model.safetensors", build_from_plan(plan.model).state_dict(), plan)
    code = BLOCKED.replace("sys.exit(run(sys.argv[2:]))", "assert all(run(line.split()) == 2 for line in sys.argv[2:])")
    done = subprocess.run([*block(LISTED, code), *lines], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for verb in (line.split()[0] for line in lines):
        needs = "Prediction with a model file" if verb == "predict" else f"unetpp {verb}"
        expected = f"^unetpp: {needs} needs the package torch, which is not installed. Run: pip install .*torch"
        assert re.search(expected, done.stderr, re.M), done.stderr


def test_scores_need_no_torch_but_scipy(tmp_path: Path) -> None:
    for folder in (tmp_path / "segmentations", tmp_path / "masks"):
        folder.mkdir()
        mask = np.zeros((16, 16), np.uint8)
        mask[4:9, 3:12] = 255
        Image.fromarray(mask).save(folder / "a.png")
    folders = [tmp_path / "segmentations", tmp_path / "masks"]
    done = subprocess.run([*block([*LISTED, "scipy"]), "evaluate", *folders, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["mean"]["dice"] == 1
    done = subprocess.run([*block(LISTED), "evaluate", *folders], capture_output=True, text=True)
    assert (done.returncode, "unetpp evaluate needs the package scipy" in done.stderr) == (2, True), done.stderr


def test_python_says_what_is_missing_as_the_command_line_does(tmp_path: Path) -> None:
    calls = ["train('.')", "build_model()", "save(1, 'm.safetensors')", "load('m.safetensors')", "HubModel('x')"]
    calls += ["peers.to_smp('x')", "DeepSupervisionLoss()", "train('.', progress=False)"]
    code = BLOCKED.partition("from unetpp.cli")[0] + (
        "import unetpp\nfor call in sys.argv[2:]:\n    try:\n        eval(f'unetpp.{call}')\n"
        "    except unetpp.MissingExtraError as error:\n        print(error)\n"
    )
    done = subprocess.run([*block(LISTED, code), *calls], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(calls), done.stdout
    for call, line in zip(calls, lines, strict=True):
        name = call.partition("(")[0].partition(".")[0]
        needs = {"load": "Prediction with a model file", "HubModel": ".*"}.get(name, rf"unetpp\.{name}")
        assert re.match(rf"{needs} needs the package .*, which is not installed\. Run: pip install", line), line


def test_a_format_that_is_not_installed_is_named(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "a.nii.gz")
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    code = BLOCKED.partition("from unetpp.cli")[0] + (
        "from pathlib import Path\nfrom unetpp.errors import MissingExtraError\n"
        "from unetpp.formats.readers import read_image\n"
        "try:\n    read_image(Path(sys.argv[2]))\nexcept MissingExtraError as error:\n    print(error)"
    )
    for name, package in {"a.nii.gz": "nibabel", "a.png": "pillow"}.items():
        command = [*block([each for each in LISTED if each != package], code), str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert f"needs the package {package}, which is not installed. Run: pip install " in done.stdout, done.stderr


@pytest.mark.slow
def test_the_page_is_followed_in_an_empty_environment(
    exports: dict[str, tuple[Path, np.ndarray]], tmp_path: Path
) -> None:
    """Takes a minute, and the package index."""
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    assert ["pip", "install", "--no-deps", "."] in COMMANDS
    for arguments in (["--no-deps", "."], LISTED):
        command = [python, "-m", "pip", "install", "-q", "--no-cache-dir", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        if re.search("No matching distribution|[Cc]onnection|Temporary failure", done.stderr):
            pytest.skip("the package index cannot be reached")
        assert done.returncode == 0, done.stderr
    for name, (file, expected) in exports.items():
        require_prediction([str(python.with_name("unetpp"))], file, name, expected, tmp_path / name)
