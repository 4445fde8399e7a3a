"""A network as a graph that other runtimes execute: normalised images of any number and size in, probabilities of all classes out."""

from __future__ import annotations

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
from unetpp.runtime.exported_file import IMAGE, KEY, PROBABILITIES, load_openvino
from unetpp.runtime.openvino import replace_group_norms

Write = Callable[["Answering", tuple[int, ...], Path, dict[str, Any]], None]
"""Called with a network, the shape of an example (B, C, *spatial), the file and what it says of itself."""


class Answering(nn.Module):
    """What is exported: probabilities at one depth, and nothing that this depth does not need."""

    def __init__(self, network: UNetPlusPlus, depth: int) -> None:
        super().__init__()
        self.network = network.prune(depth)

    def forward(self, image: Tensor) -> Tensor:
        return to_probabilities(self.network(image))


def write_pt2(network: Answering, shape: tuple[int, ...], path: Path, about: dict[str, Any]) -> None:
    """What torch.export makes, for programs with torch and without unetpp."""
    exported = torch.export.export(network, (torch.zeros(shape),), dynamic_shapes=_any_size(shape))
    exported.example_inputs = None  # a batch of tiles would be written with it
    torch.export.save(exported, path, extra_files={KEY: json.dumps(about)})


def write_onnx(network: Answering, shape: tuple[int, ...], path: Path, about: dict[str, Any]) -> None:
    """ONNX, weights and all in one file.

    Raises:
        MissingExtraError: without the extra `export`.
    """
    with optional_package("onnxscript", "export", "a file in the format ONNX"):
        import onnxscript  # noqa: F401
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program: Any = torch.onnx.export(
            replace_group_norms(network),
            (torch.zeros(shape),),
            dynamo=True,
            dynamic_shapes=_any_size(shape),
            input_names=[IMAGE],
            output_names=[PROBABILITIES],
            verbose=False,
        )
    program.model.metadata_props[KEY] = json.dumps(about)
    program.save(path, external_data=False)


def write_openvino(network: Answering, shape: tuple[int, ...], path: Path, about: dict[str, Any]) -> None:
    """OpenVINO's .xml, and the .bin beside it.

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


def _any_size(shape: tuple[int, ...]) -> tuple[dict[int, Any]]:
    return ({axis: Dim.DYNAMIC for axis in (0, *range(2, len(shape)))},)
