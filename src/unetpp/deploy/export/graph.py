"""Networks as graphs for other runtimes: images of any number and size to probabilities, written and opened again.

Input: normalized images (B, C, *spatial). Outputs: probabilities (B, classes, *spatial) at each size.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from unetpp.errors import optional_package
from unetpp.labels.coding_torch import CLASSES, TensorCoding
from unetpp.model.network import UNetPlusPlus
from unetpp.model.weight_count import count_size_weights, count_weights
from unetpp.progress import mute_warnings
from unetpp.runtime.exported_file import (
    IMAGE,
    KEY,
    PROBABILITIES,
    ExportedNetwork,
    load_onnxruntime,
    load_openvino,
    open_exported,
    read_description,
)
from unetpp.runtime.openvino import replace_group_norms
from unetpp.size_names import SizeNames
from unetpp.sizes import find_size

Write = Callable[["Exportable", tuple[int, ...], Path, dict[str, Any]], None]
"""Called with a network, the shape of an example (B, C, *spatial), the file and its description."""


class SizeProbabilities(nn.Module):
    """What is exported: the probabilities at some sizes, averaged over folds, without parts that no size needs.

    Args:
        networks: networks of the same plan.
        sizes: what is exported, with the names of the networks' sizes.
        coding: what the logits mean.
    """

    def __init__(self, networks: Sequence[UNetPlusPlus], sizes: SizeNames, coding: TensorCoding = CLASSES) -> None:
        super().__init__()
        self._coding = coding
        largest, several = sizes.join(sizes.numbers), len(sizes.numbers) > 1
        self.networks = nn.ModuleList(network.prune(largest, keep_heads=several) for network in networks)
        self.sizes = sizes
        self.parameter_count = sum(
            count_weights(pruned) if several else count_size_weights(network, largest)
            for network, pruned in zip(networks, self.networks, strict=True)
        )
        depth = find_size(largest, sizes.depth).depth
        self._pruned_numbers = [find_size(number, sizes.depth).number(depth) for number in sizes.numbers]

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Probabilities (B, outputs, *spatial) of images (B, C, *spatial); of several sizes a tuple."""
        found = zip(*(self._predict(network, image) for network in self.networks), strict=True)
        means = tuple(each[0] if len(each) == 1 else sum(each[1:], each[0]) / len(each) for each in found)
        return means if len(means) > 1 else means[0]

    def _predict(self, network: Any, image: Tensor) -> list[Tensor]:
        if len(self.sizes.numbers) == 1:
            return [self._coding.to_probabilities(network(image))]
        if len(self.sizes.channels) > 1:  # so that a runtime that wants an inner size alone does not compute the outer
            forward_pass = network.start_forward(image)
            return [self._coding.to_probabilities(forward_pass.logits(number)) for number in self._pruned_numbers]
        heads = network(image, heads=True)
        return [self._coding.to_probabilities(heads.at(number)) for number in self._pruned_numbers]


class MeanProbabilities(nn.Module):
    """What is exported of two runs: the mean of their probabilities, each at a size of its own.

    Args:
        parts: each run at one size.
    """

    def __init__(self, parts: Sequence[SizeProbabilities]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.sizes = parts[0].sizes
        self.parameter_count = sum(part.parameter_count for part in parts)

    def forward(self, image: Tensor) -> Tensor:
        """Probabilities (B, outputs, *spatial) of images (B, C, *spatial)."""
        first, *others = (part(image) for part in self.parts)
        mean: Tensor = sum(others, first) / len(self.parts)
        return mean


Exportable = SizeProbabilities | MeanProbabilities


def write_pt2(network: Exportable, shape: tuple[int, ...], path: Path, about: dict[str, Any]) -> None:
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


def write_onnx(network: Exportable, shape: tuple[int, ...], path: Path, about: dict[str, Any]) -> None:
    """Write ONNX, weights included in the file. Arguments as in `write_pt2`."""
    sizes = network.sizes.list_names()
    with warnings.catch_warnings(), mute_warnings("torch.onnx"):  # it logs that torchvision is not installed
        warnings.simplefilter("ignore")  # the exporter warns about itself
        program: Any = torch.onnx.export(
            replace_group_norms(network),
            (torch.zeros(shape),),
            dynamo=True,
            dynamic_shapes=_any_size(shape),
            input_names=[IMAGE],
            output_names=[f"{PROBABILITIES}_{name}" for name in sizes] if len(sizes) > 1 else [PROBABILITIES],
            verbose=False,
        )
    for node in program.model.graph:
        node.metadata_props.clear()  # paths and source lines of this machine
    program.model.metadata_props[KEY] = json.dumps(about)
    program.save(path, external_data=False)


def write_openvino(network: Exportable, shape: tuple[int, ...], path: Path, about: dict[str, Any]) -> None:
    """Write an .xml of OpenVINO and its .bin. Arguments as in `write_pt2`."""
    openvino = load_openvino("a file for OpenVINO")
    graph = path.with_name("graph.onnx")
    write_onnx(network, shape, graph, about)
    model = openvino.convert_model(graph)
    graph.unlink()
    model.set_rt_info(json.dumps(about), KEY)
    openvino.save_model(model, path, compress_to_fp16=False)


FORMATS: dict[str, Write] = {".onnx": write_onnx, ".pt2": write_pt2, ".xml": write_openvino}


def require_libraries(suffix: str) -> None:
    """Import what writes and runs a format.

    Raises:
        MissingExtraError: without the extra `export`, and `openvino` or `runtime`.
    """
    if suffix == ".pt2":
        return
    with optional_package("onnxscript", "export", "a file in the format ONNX"):
        import onnxscript  # noqa: F401
    if suffix == ".xml":
        load_openvino("a file for OpenVINO")
    else:
        load_onnxruntime()


def open_export(path: Path) -> tuple[ExportedNetwork, dict[str, Any]]:
    """Open an exported file in its runtime, in float32. Only for files of this process: torch.export.load unpickles.

    Returns:
        The network in the file, and the description there.

    Raises:
        MissingExtraError: without its runtime.
    """
    if path.suffix != ".pt2":
        return open_exported(path, exact=True)
    module = torch.export.load(path).module()

    def run(image: np.ndarray, heads: Sequence[int]) -> Sequence[np.ndarray]:
        found = module(torch.from_numpy(image))
        outputs = found if isinstance(found, tuple) else (found,)
        return [outputs[head].detach().numpy() for head in heads]

    return run, read_description(path)


def _any_size(shape: tuple[int, ...]) -> tuple[dict[int, Any]]:
    return ({axis: Dim.DYNAMIC for axis in (0, *range(2, len(shape)))},)
