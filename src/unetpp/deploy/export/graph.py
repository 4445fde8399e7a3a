"""Networks as graphs for other runtimes: images of any number and size to probabilities, written and opened again.

Input: normalized images (B, C, *spatial). Output: probabilities of all classes (B, classes, *spatial).
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from unetpp.errors import optional_package
from unetpp.labels.classes_torch import to_probabilities
from unetpp.model.network import UNetPlusPlus
from unetpp.runtime.exported_file import IMAGE, KEY, PROBABILITIES, ExportedNetwork, load_openvino, open_exported
from unetpp.runtime.openvino import replace_group_norms

Write = Callable[["DepthProbabilities", tuple[int, ...], Path, dict[str, Any]], None]
"""Called with a network, the shape of an example (B, C, *spatial), the file and its description."""


class DepthProbabilities(nn.Module):
    """Network to export: the probabilities at one depth, without the parts that this depth does not need."""

    def __init__(self, network: UNetPlusPlus, depth: int) -> None:
        super().__init__()
        self.network = network.prune(depth)

    def forward(self, image: Tensor) -> Tensor:
        """Probabilities (B, classes, *spatial) of images (B, C, *spatial)."""
        return to_probabilities(self.network(image))


def write_pt2(network: DepthProbabilities, shape: tuple[int, ...], path: Path, about: dict[str, Any]) -> None:
    """Write a program of torch.export, for use with torch and without unetpp.

    Args:
        network: the network.
        shape: shape of an example, (B, C, *spatial).
        path: the file to write.
        about: its description, stored in the file.
    """
    exported = torch.export.export(network, (torch.zeros(shape),), dynamic_shapes=_any_size(shape))
    exported.example_inputs = None  # a batch of tiles would be written with it
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths and source lines of this machine
    content = io.BytesIO()  # torch's own writer ends the process where a disk is full
    torch.export.save(exported, content, extra_files={KEY: json.dumps(about)})
    path.write_bytes(content.getbuffer())


def write_onnx(network: DepthProbabilities, shape: tuple[int, ...], path: Path, about: dict[str, Any]) -> None:
    """Write ONNX, weights included in the file. Arguments as in `write_pt2`.

    Raises:
        MissingExtraError: without the extra `export`.
    """
    with optional_package("onnxscript", "export", "a file in the format ONNX"):
        import onnxscript  # noqa: F401
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about itself
        program: Any = torch.onnx.export(
            replace_group_norms(network),
            (torch.zeros(shape),),
            dynamo=True,
            dynamic_shapes=_any_size(shape),
            input_names=[IMAGE],
            output_names=[PROBABILITIES],
            verbose=False,
        )
    for node in program.model.graph:
        node.metadata_props.clear()  # paths and source lines of this machine
    program.model.metadata_props[KEY] = json.dumps(about)
    program.save(path, external_data=False)


def write_openvino(network: DepthProbabilities, shape: tuple[int, ...], path: Path, about: dict[str, Any]) -> None:
    """Write an .xml of OpenVINO and its .bin. Arguments as in `write_pt2`.

    Raises:
        MissingExtraError: without the extras `export` and `openvino`.
    """
    openvino = load_openvino("a file for OpenVINO")
    graph = path.with_name("graph.onnx")
    write_onnx(network, shape, graph, about)
    model = openvino.convert_model(graph)
    graph.unlink()
    model.set_rt_info(json.dumps(about), KEY)
    openvino.save_model(model, path, compress_to_fp16=False)


FORMATS: dict[str, Write] = {".onnx": write_onnx, ".pt2": write_pt2, ".xml": write_openvino}


def open_export(path: Path) -> tuple[ExportedNetwork, dict[str, Any]]:
    """Open an exported file in its runtime, in float32. Only for files of this process: torch.export.load unpickles.

    Returns:
        A function from images to probabilities, and the description in the file.

    Raises:
        MissingExtraError: without its runtime.
    """
    if path.suffix != ".pt2":
        return open_exported(path, exact=True)
    extra = {KEY: ""}
    module = torch.export.load(path, extra_files=extra).module()
    return lambda image: module(torch.from_numpy(image)).detach().numpy(), json.loads(extra[KEY] or "{}")


def _any_size(shape: tuple[int, ...]) -> tuple[dict[int, Any]]:
    return ({axis: Dim.DYNAMIC for axis in (0, *range(2, len(shape)))},)
