"""Tiny settings, and ways to run the command line."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unetpp import cli

TINY = {
    "model.topology": "unet++",
    "model.widths": [4, 8, 8],
    "model.depth": 2,
    "model.strides": [[2, 2], [2, 2]],
    "model.kernel_sizes": [[3, 3], [3, 3], [3, 3]],
    "train.patch": [32, 32],
    "train.batch": 2,
    "train.steps_per_epoch": 3,
    "train.validations": 2,
    "train.validation_cases": 2,
    "predict.tile": [32, 32],
    "predict.depth": 2,
}
"""Settings with which an epoch takes a fraction of a second."""

TINY_NESTED = TINY | {
    "model.topology": "unet",
    "model.widths": [16, 16, 16],
    "model.shells": [8, 16],
    "predict.depth": 4,
}
"""The same with two sizes nested in width, as the planner chooses them."""

TINY_3D = TINY | {
    "model.strides": [[1, 2, 2], [2, 2, 2]],
    "model.kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "train.patch": [8, 16, 16],
    "predict.tile": [8, 16, 16],
}


@dataclass(frozen=True)
class Answer:
    """What a command line gave back."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


def run_cli(*tokens: object) -> Answer:
    """Run a command line in this process."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        code = cli.run([str(token) for token in tokens])
    return Answer(code, stdout.getvalue(), stderr.getvalue())


def set_options(settings: dict[str, Any]) -> list[str]:
    """Settings as the command line takes them."""
    return ["--set", *(f"{key}={json.dumps(value)}" for key, value in settings.items())]


def call_learned(file: Path) -> None:
    """Remove the verdict from a model file: with it, a network that has hardly learned is not adapted."""
    from unetpp.model.file import load_model, save_model
    from unetpp.model_notes import Notes

    network, header = load_model(file)
    notes = Notes(**header.notes.model_dump(exclude_unset=True, exclude={"verdict"}))
    save_model(file, network.state_dict(), header.plan, notes)


def write_png(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def run_process(*tokens: object, **options: Any) -> Answer:
    """Run a command line as a user does, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "unetpp", *map(str, tokens)], capture_output=True, text=True, check=False, **options
    )
    return Answer(done.returncode, done.stdout, done.stderr)
