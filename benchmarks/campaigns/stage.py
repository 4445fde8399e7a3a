"""A tiny data set, a run that was trained on it, and every verb as a command on them."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.campaigns.outcome import Outcome, require
from tests.tiny import TINY, call_learned

from unetpp.data.demo import write_demo_data

SETTINGS = ["--device", "cpu", "--set", *(f"{key}={json.dumps(value)}" for key, value in TINY.items())]
TRAINING = ["--epochs", "3", "--resume", "--device", "cpu"]


class Stage:
    """The files that all campaigns begin with; `copy` gives each injection its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 0
        self.original = folder / "original"
        data = write_demo_data(self.original / "data", 2, cases=15, shape=(32, 40))
        settings = [*SETTINGS, "train.checkpoint_minutes=0.001"]
        require(["plan", str(data), "--out", str(self.original / "run"), "--epochs", "3", *settings])
        shutil.copytree(self.original / "run", self.original / "planned")
        self.training = require(["train", str(data), "--out", str(self.original / "run"), *TRAINING])
        call_learned(self.original / "run" / "fold_0" / "model.safetensors")
        for verb in ("predict", "evaluate"):  # these are the earlier results in the way of the next
            require(self.command(verb, self.original))

    def copy(self) -> Path:
        """Copy everything to a new folder."""
        self._number += 1
        return Path(shutil.copytree(self.original, self.folder / f"copy_{self._number}"))

    def command(self, verb: str, folder: Path) -> list[str]:
        """Return the command line of a verb on a copy."""
        tokens = {
            "check": ["check", "data"],
            "plan": ["plan", "data", "--out", "new", *SETTINGS],
            "train": ["train", "data", "--out", "planned", *TRAINING],
            "report": ["report", "run"],
            "predict": [
                "predict", "run", "data/images", "--out", "predictions",
                "--device", "cpu", "--backend", "torch", "--uncertainty", "entropy",
            ],
            "evaluate": ["evaluate", "predictions", "data/masks", "--out", "scores.json"],
            "prune": ["prune", "run", "--depth", "1", "--out", "small.safetensors"],
            "adapt": ["adapt", "run", "--device", "cpu", "--backend", "torch"],
            "export": ["export", "run", "--depth", "1", "--out", "small.onnx"],
            "info": ["info", "run"],
            "clean": ["clean", "run"],
        }[verb]  # fmt: skip
        places = {"data", "new", "planned", "run", "predictions", "scores.json", "small.safetensors", "small.onnx"}
        return [str(folder / token) if token.split("/")[0] in places else token for token in tokens]


VERBS = ("check", "plan", "train", "report", "predict", "evaluate", "prune", "adapt", "info", "clean")
"""Verbs that are fast enough to be tried hundreds of times."""


def find_damage(folder: Path, earlier: Path | None = None) -> Iterator[str]:
    """Read every file of a folder as a whole.

    Args:
        folder: to look at.
        earlier: a folder whose files have to be in it still.

    Yields:
        What is not whole, and what was lost.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(".unetpp-"):
            try:
                read_whole(path)
            except Exception as error:
                yield f"{path.relative_to(folder)} is not whole ({type(error).__name__}: {error})"
    for path in earlier.rglob("*") if earlier else ():
        if path.is_file() and path.parent.name != "cache" and not (folder / path.relative_to(earlier)).exists():
            yield f"{path.relative_to(earlier)} was there and is gone"


def read_whole(path: Path) -> None:
    """Read a file as its reader does; raises whatever is wrong with it."""
    import numpy as np

    from unetpp.formats.readers import read_label
    from unetpp.model.file import read_tensors
    from unetpp.runtime.exported_file import open_exported

    if path.suffix in (".png", ".tif"):
        read_label(path)
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix in (".safetensors", ".ckpt"):
        read_tensors(path)
    elif path.suffix == ".npy":
        np.load(path, allow_pickle=False)
    elif path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            [arrays[name] for name in arrays]
    elif path.suffix == ".onnx":
        open_exported(path)
    elif path.suffix == ".html" and not path.read_text().rstrip().endswith("</html>"):
        raise ValueError("it has no end")


def list_remains(folder: Path) -> list[Path]:
    """List temporary files that a killed process left, and make them old enough to be removed."""
    found = list(folder.rglob(".unetpp-*"))
    for path in found:
        os.utime(path, (time.time() - 3600,) * 2)
    return found


def compare_trainings(run: Path, reference: Path, fold: int = 0) -> str | None:
    """Compare two trainings of a fold bit for bit: weights, scores of cases, validations; not times.

    Returns:
        What differs, or None.
    """
    import torch

    from unetpp.model.file import read_tensors

    ours, theirs = (read_tensors(folder / f"fold_{fold}" / "model.safetensors") for folder in (run, reference))
    if ours.keys() != theirs.keys() or not all(torch.equal(ours[name], theirs[name]) for name in ours):
        return "the weights differ from those of a training left alone"
    ours, theirs = (
        json.loads((folder / f"fold_{fold}" / "metrics.json").read_text())["cases"] for folder in (run, reference)
    )
    if ours != theirs:
        return "the scores differ from those of a training left alone"
    ours, theirs = (_read_validations(folder / f"fold_{fold}" / "log.jsonl") for folder in (run, reference))
    return "the logged validations differ from those of a training left alone" if ours != theirs else None


def _read_validations(path: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if not key.endswith(("_s", "train_loss"))}  # that of one session
        for line in lines
        if line["kind"] == "validation"
    ]


def describe(outcome: Outcome) -> str:
    return " ".join(outcome.text.split())[-200:]
