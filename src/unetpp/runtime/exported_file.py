"""ONNX Runtime and OpenVINO, and the exported files that they run. Needs no torch."""

from __future__ import annotations

import functools
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np

from unetpp.errors import MissingExtraError, ModelFileError, optional_package

KEY = "unetpp"
"""Of the entry that says, as JSON, what an exported file is; see `deploy.export.model_card.describe`."""
IMAGE, PROBABILITIES = "image", "probabilities"
"""Names of the graph's input (B, C, *spatial) and output (B, classes, *spatial), both float32."""
Answer = Callable[[np.ndarray], np.ndarray]
"""From normalised images (B, C, *spatial) float32 to probabilities (B, classes, *spatial)."""
RUNTIMES = {".onnx": "onnxruntime", ".xml": "openvino"}
"""Suffix of an exported file -> what runs it."""


def report_nothing() -> None:
    """OpenVINO and NNCF would report their use over the network, unless their reporter is missing."""
    sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))


def load_openvino(purpose: str) -> Any:
    """The package, which reports nothing.

    Raises:
        MissingExtraError: it is not installed.
    """
    report_nothing()
    with optional_package("openvino", "openvino", purpose):
        import openvino
    return openvino


_MAKING_CORE = threading.Lock()


def openvino_core(purpose: str = "--backend openvino") -> Any:
    """What reads and compiles: one for the whole process.

    The CPU plugin of each gives the thread a stack for signals. Of two plugins that lived at the same time, the second to go leaves behind the stack of the first, which is
    gone: the next Ctrl-C would be a segmentation fault.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    openvino = load_openvino(purpose)
    with _MAKING_CORE:
        return _make_core(openvino.Core)


@functools.cache
def _make_core(core: Callable[[], Any]) -> Any:
    return core()


def open_exported(path: Path, exact: bool = False) -> tuple[Answer, dict[str, Any]]:
    """What an exported .onnx or .xml answers, and what it says of itself: nothing where another program made it.

    Args:
        exact: in float32, where OpenVINO would take bfloat16 on processors that have it.

    Raises:
        ModelFileError: it cannot be read.
        MissingExtraError: without its runtime.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: got no such file; expected one that `unetpp export` wrote. Check the path.")
    opened = {".onnx": _onnx, ".xml": _openvino}[path.suffix]
    try:
        answer, about = opened(path, exact)
    except MissingExtraError:
        raise
    except Exception as error:  # each runtime has its own
        reason = " ".join(str(error).split())[-200:] or type(error).__name__
        raise ModelFileError(
            f"{path}: got a file that {RUNTIMES[path.suffix]} cannot run ({reason}); expected one that `unetpp export` wrote. Export it again."
        ) from error
    return answer, json.loads(about or "{}")


def _onnx(path: Path, exact: bool) -> tuple[Answer, str | None]:
    with optional_package("onnxruntime", "runtime", "to run a file in the format ONNX"):
        import onnxruntime
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image: cast(
        np.ndarray, session.run(None, {IMAGE: image})[0]
    ), session.get_modelmeta().custom_metadata_map.get(KEY)


def _openvino(path: Path, exact: bool) -> tuple[Answer, str | None]:
    core = openvino_core("to run a file for OpenVINO")
    model = core.read_model(path)
    about = model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else None
    tile = tuple(json.loads(about or "{}").get("tile", ()))
    compiled = functools.cache(
        lambda size: core.compile_model(
            _for_size(core.read_model(path), size), "CPU", {"INFERENCE_PRECISION_HINT": "f32"} if exact else {}
        )
    )
    compiled(tile)
    one_image = threading.Lock()  # a compiled graph has one request for work, which threads cannot share

    def answer(image: np.ndarray) -> np.ndarray:
        with one_image:  # all other sizes share a graph that takes any
            return np.array(compiled(tile if image.shape[2:] == tile else ())(image)[0])

    return answer, about


def _for_size(model: Any, size: tuple[int, ...]) -> Any:
    """The graph for one size of images, without what cuts and continues them at odd sizes: 0.8 of the time (docs/log.md)."""
    if not size:
        return model
    image = model.inputs[0]
    model.reshape({image: [*image.partial_shape[:2], *size]})
    for operation in model.get_ordered_ops():
        if (
            operation.get_type_name() == "Gather"
            and operation.input(0).get_partial_shape() == operation.output(0).get_partial_shape()
        ):
            operation.output(0).replace(operation.input_value(0))
    return model
