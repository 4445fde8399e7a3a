"""What the package computes, number by number: a change of structure changes none of them.

    python -m tests.test_numerics FILE     # before the change writes FILE; after it compares with FILE, bit for bit

The test compares with `numerics.json`, which was written on another machine, as closely as two machines agree.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import unetpp
from tests.tiny import TINY, TINY_3D
from unetpp.data.demo import write_demo_data
from unetpp.train import trainer

KEPT = Path(__file__).with_name("numerics.json")
STEPS = 20
RUNS: dict[str, tuple[int, tuple[int, ...], dict[str, Any]]] = {
    "2D": (2, (32, 40), TINY),
    "3D": (
        3,
        (8, 20, 18),
        TINY_3D | {"model.norm": "instance", "train.optimizer": "adamw", "train.checkpointing": "cheap"},
    ),
}


def computed(folder: Path, name: str) -> dict[str, Any]:
    """Losses of 20 steps, predictions and an exported file of one kind of network."""
    dims, shape, settings = RUNS[name]
    data, run = write_demo_data(folder / "data", dims, cases=6, shape=shape), folder / "run"
    settings = settings | {"train.precision": "fp32", "predict.precision": "fp32", "train.steps_per_epoch": STEPS}
    unetpp.train(data, run, epochs=1, device="cpu", seed=3, set=settings)
    lines = [json.loads(line) for line in (run / "fold_0" / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    unetpp.predict(
        run,
        data / "images",
        out=folder / "out",
        depth="all",
        tta=True,
        probabilities=True,
        backend="torch",
        device="cpu",
    )
    exported = unetpp.export(run, folder / "m.onnx")
    metrics = json.loads((run / "fold_0" / "metrics.json").read_text())
    return {
        "losses": losses,
        "weights": digest(
            (run / "fold_0" / "model.safetensors").read_bytes()[-metrics["depths"]["2"]["parameters"] * 4 :]
        ),
        "dice": {depth: row["dice"] for depth, row in metrics["depths"].items()},
        "predictions": {
            str(path.relative_to(folder / "out")): digest(path.read_bytes())
            for path in sorted((folder / "out").rglob("*"))
            if path.is_file() and path.suffix not in (".json", ".csv")
        },
        "foreground": {
            path.name: foreground(path)
            for path in sorted((folder / "out" / "depth_2").iterdir())
            if path.suffix in (".png", ".gz")
        },
        "graph": graph(exported.out),
    }


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def foreground(path: Path) -> float:
    """Share of foreground in a segmentation."""
    if path.suffix == ".png":
        return float((np.asarray(Image.open(path)) > 0).mean())
    import nibabel

    return float((np.asarray(nibabel.load(path).dataobj) > 0).mean())


def graph(path: Path) -> dict[str, Any]:
    """Operations of an ONNX file in order, and what its weights are; not where in the source each came from."""
    model = onnx.load(path)
    weights = sorted(onnx.numpy_helper.to_array(each).tobytes() for each in model.graph.initializer)
    return {"operations": [node.op_type for node in model.graph.node], "weights": digest(b"".join(weights))}


@pytest.fixture
def every_step_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "LOG_EVERY_S", -1.0)


@pytest.mark.parametrize("name", RUNS)
def test_numbers_are_those_that_were_kept(name: str, tmp_path: Path, every_step_is_logged: None) -> None:
    kept, found = json.loads(KEPT.read_text())[name], computed(tmp_path, name)
    assert len(found["losses"]) == STEPS
    assert found["losses"] == pytest.approx(kept["losses"], rel=2e-2)
    assert found["losses"][:3] == pytest.approx(kept["losses"][:3], rel=1e-4)
    assert found["dice"] == pytest.approx(kept["dice"], abs=0.02)
    assert found["foreground"] == pytest.approx(kept["foreground"], abs=0.01)
    assert found["predictions"].keys() == kept["predictions"].keys()
    assert found["graph"]["operations"] == kept["graph"]["operations"]


def main(file: Path) -> None:
    trainer.LOG_EVERY_S = -1.0  # type: ignore[misc]
    found = {}
    for name in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = computed(Path(folder), name)
    if not file.exists():
        file.write_text(json.dumps(found, indent=1) + "\n")
        return
    kept = json.loads(file.read_text())
    changed = [f"{name}: {part}" for name in RUNS for part in found[name] if found[name][part] != kept[name][part]]
    sys.exit("Changed: " + ", ".join(changed) if changed else 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
