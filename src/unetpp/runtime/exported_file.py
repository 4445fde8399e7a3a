"""ONNX Runtime and OpenVINO, and the exported files that they run. Needs no torch."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np

from unetpp.errors import MissingExtraError, ModelFileError, optional_package
from unetpp.json_files import parse_json

KEY = "unetpp"
"""Name of the entry that describes an exported file, as JSON; see `deploy.export.model_card.describe`."""
IMAGE, PROBABILITIES = "image", "probabilities"
"""Names of the graph's input (B, C, *spatial) and output (B, classes, *spatial), both float32."""
ExportedNetwork = Callable[[np.ndarray], np.ndarray]
"""Maps normalized images (B, C, *spatial) float32 to probabilities (B, classes, *spatial)."""
RUNTIMES = {".onnx": "onnxruntime", ".xml": "openvino"}
"""Suffix of an exported file -> the runtime that runs it."""
BACKEND_OPENVINO = '`backend="openvino"`'
"""The purpose of loading OpenVINO, for errors."""


def disable_telemetry() -> None:
    """Keep OpenVINO, NNCF and ONNX Runtime from reporting their use over the network; called before their import."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))


def load_openvino(purpose: str) -> Any:
    """Import OpenVINO without its telemetry.

    Raises:
        MissingExtraError: it is not installed.
    """
    disable_telemetry()
    with optional_package("openvino", "openvino", purpose):
        import openvino
    return openvino


def openvino_core(purpose: str = BACKEND_OPENVINO) -> Any:
    """Return the openvino.Core of this process, which reads and compiles.

    There is only one: the CPU plugin of each core gives the thread a stack for signals. Of two plugins alive at the
    same time, the second to be freed restores the stack of the first, which is gone, and the next Ctrl-C would be a
    segmentation fault.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    openvino = load_openvino(purpose)
    with _CORE_LOCK:
        return _make_core(openvino.Core)


_CORE_LOCK = threading.Lock()
_make_core = functools.cache(lambda core: core())


def open_exported(path: Path, exact: bool = False) -> tuple[ExportedNetwork, dict[str, Any]]:
    """Open an exported .onnx or .xml.

    Args:
        path: the file.
        exact: compute in float32, where OpenVINO would use bfloat16 on processors that have it.

    Returns:
        The network, and the description inside the file: empty if another program made it.

    Raises:
        ModelFileError: it cannot be read.
        MissingExtraError: its runtime is not installed.
    """
    expected = "one that `unetpp export` wrote"
    if not path.is_file():
        raise ModelFileError(path, "no such file", expected, "Check the path.")
    try:
        network, about = {".onnx": _open_onnx, ".xml": _open_openvino}[path.suffix](path, exact)
    except MissingExtraError:
        raise
    except Exception as error:  # each runtime has its own
        reason = " ".join(str(error).split())[-200:] or type(error).__name__
        got = f"a file that {RUNTIMES[path.suffix]} cannot run ({reason})"
        raise ModelFileError(path, got, expected, "Export it again.") from error
    return network, _read_description(path, about)


def _read_description(path: Path, about: str | None) -> dict[str, Any]:
    try:
        description = parse_json(about or "{}")
    except ValueError as error:
        description = error
    if not isinstance(description, dict):
        got = f"a file whose description cannot be read ({description})"
        raise ModelFileError(path, got[:300], "one that `unetpp export` wrote", "Export it again.")
    return description


def _open_onnx(path: Path, exact: bool) -> tuple[ExportedNetwork, str | None]:
    with optional_package("onnxruntime", "runtime", "to run a file in the format ONNX"):
        disable_telemetry()
        import onnxruntime
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map.get(KEY)
    return lambda image: session.run(None, {IMAGE: image})[0], about


def _open_openvino(path: Path, exact: bool) -> tuple[ExportedNetwork, str | None]:
    core = openvino_core("to run a file for OpenVINO")
    model = core.read_model(path)
    about = model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else None
    tile = tuple(parse_json(about or "{}").get("tile", ()))
    options = {"INFERENCE_PRECISION_HINT": "f32"} if exact else {}

    @functools.cache
    def compiled(size: tuple[int, ...]) -> Any:
        return core.compile_model(_fix_size(core.read_model(path), size), "CPU", options)

    compiled(tile)
    lock = threading.Lock()  # a compiled graph has one inference request, which threads cannot share

    def run(image: np.ndarray) -> np.ndarray:
        with lock:  # all sizes other than a tile's share a graph of dynamic size
            return np.array(compiled(tile if image.shape[2:] == tile else ())(image)[0])

    return run, about


def _fix_size(model: Any, size: tuple[int, ...]) -> Any:
    """Fix the size of the images, and remove the crops and pads for odd sizes: 0.8 of the time (docs/log.md)."""
    if not size:
        return model
    image = model.inputs[0]
    model.reshape({image: [*image.partial_shape[:2], *size]})
    for operation in model.get_ordered_ops():
        source, target = operation.input, operation.output
        if operation.get_type_name() == "Gather" and source(0).get_partial_shape() == target(0).get_partial_shape():
            target(0).replace(operation.input_value(0))
    return model
