"""Exported files run by their own runtimes. Only files that this process wrote: torch.export.load unpickles."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from unetpp.deploy.export.graph import IMAGE, KEY
from unetpp.errors import optional_package
from unetpp.infer.engine import openvino_core

Answer = Callable[[np.ndarray], np.ndarray]
"""From normalised images (B, C, *spatial) float32 to probabilities (B, classes, *spatial)."""


def open_exported(path: Path) -> tuple[Answer, dict[str, Any]]:
    """What an exported file answers, and what it says of itself.

    Raises:
        MissingExtraError: without its runtime.
    """
    answer, about = {".onnx": _onnx, ".xml": _openvino, ".pt2": _pt2}[path.suffix](path)
    return answer, json.loads(about or "{}")


def _onnx(path: Path) -> tuple[Answer, str | None]:
    with optional_package("onnxruntime", "export", "to run a file in the format ONNX"):
        import onnxruntime
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image: cast(np.ndarray, session.run(None, {IMAGE: image})[0]), session.get_modelmeta().custom_metadata_map.get(KEY)


def _openvino(path: Path) -> tuple[Answer, str | None]:
    core = openvino_core("to run a file for OpenVINO")
    model = core.read_model(path)
    about = model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else None
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})  # by default it takes bfloat16 where there is some
    return lambda image: np.array(compiled(image)[0]), about


def _pt2(path: Path) -> tuple[Answer, str | None]:
    import torch

    files = {KEY: ""}
    module = torch.export.load(path, extra_files=files).module()
    return lambda image: module(torch.from_numpy(image)).detach().numpy(), files[KEY]
