"""A state_dict of a network of `build_model`, saved by one's own loop: its settings are read from names and shapes.

What leaves no trace in the tensors (the activation, say) is assumed as `build_model` has it. `unetpp.save` assumes
nothing, since a network knows its settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor

from unetpp.errors import ModelFileError
from unetpp.model.build import PRESETS, build_from_plan, model_plan
from unetpp.peers.import_settings import ImportSettings
from unetpp.peers.transfer import Peer, PeerNetwork, Source
from unetpp.plan import ModelPlan, Normalization

TITLE = "UNetPlusPlus of unetpp"
MARKS = tuple(f"heads.{depth}.weight" for depth in range(1, 10))
WIDE_STEPS = {1: 1, 4: 2, 5: 3, 8: 4}
"""Kernel of `up` "transposed_wide" -> stride."""
NO_TRACE = {
    "norm": "group, instance and layer normalization have the same tensors",
    "activation": "it has no tensors",
    "down": "max-pooling and a stride in the next convolution have no tensors",
    "concat": "the order of the inputs of a node leaves no trace",
    "up": "interpolation has no tensors; nor has `model.strides`, 2 along each axis",
}
"""Field that tensors may not tell -> why."""


def read(source: Source, settings: ImportSettings) -> PeerNetwork:
    """Read the settings of a network of ours; those without a trace in the tensors are assumed."""
    try:
        found = _Tensors(source).fields()
    except (LookupError, ValueError, ArithmeticError, StopIteration):
        got, expected = f"tensors that are not those of {TITLE}", "a whole state_dict, as it was saved"
        raise ModelFileError(source.path, got, expected, "Save it again, or use `unetpp.save`.") from None
    if any(name.startswith("encoder.") for name in source.tensors):
        found["encoder"] = settings.require("model.encoder", "the `encoder` of build_model, such as resnet34")
        if not found["encoder"]:
            settings.require_complete(source.path)
    assumed = _assume(found, settings)
    given = {key.removeprefix("model."): value for key, value in settings.given.items() if key.startswith("model.")}
    model = _find_fit(source.tensors, {**found, **assumed, **given})
    if model.topology == "unet+" and model.depth > 1:
        settings.require("model.topology", "unet+ or unet_e, whose tensors are alike")
    with torch.device("meta"):
        names = {name: name for name in build_from_plan(model).state_dict()}
    reason = "the default of `unetpp.save`: each image to mean 0 and standard deviation 1"
    normalization = settings.get("data.normalization", (Normalization(),) * model.in_channels, reason)
    return PeerNetwork(TITLE, model, names, data={"data.normalization": normalization})


PEER = Peer("unetpp", MARKS, read)


def _assume(found: Mapping[str, Any], settings: ImportSettings) -> dict[str, Any]:
    """Assume the fields that these tensors do not tell, or take them from the user."""
    usual = {"norm": "group", "activation": "leaky_relu", "down": "pool", "concat": "skips_up", "up": "linear"}
    if found.get("encoder") == "resenc":
        usual |= {"norm": "instance", "down": "first"}
    elif found.get("norm") == "none":
        usual |= {"activation": PRESETS["paper"]["activation"]}
    elif any(round(width * shell) % 8 for width in found.get("widths", ()) for shell in found.get("shells", ())):
        usual |= {"norm": "instance"}  # groups of 8 channels do not fit these shells
    return {
        name: settings.get(f"model.{name}", usual[name], f"as unetpp.build_model has it: {why}")
        for name, why in NO_TRACE.items()
        if name not in found
    }


def _find_fit(tensors: Mapping[str, Tensor], fields: Mapping[str, Any]) -> ModelPlan:
    """Find the structure that has these tensors; if none has all of them, the one with most, for a useful error."""
    shapes = {(name, tuple(tensor.shape)) for name, tensor in tensors.items()}
    topologies = [fields["topology"]] if "topology" in fields else ["unet++", "unet+", "unet_e"]
    blocks = [fields["block"]] if "block" in fields else ["plain", "projected", "residual"]
    fits: list[tuple[int, ModelPlan]] = []
    for topology, block in product(topologies, blocks):
        model = model_plan(**{**fields, "topology": topology, "block": block})
        with torch.device("meta"):
            ours = build_from_plan(model).state_dict()
        fits.append((len(shapes ^ {(name, tuple(each.shape)) for name, each in ours.items()}), model))
    return min(fits, key=lambda fit: fit[0])[1]


class _Tensors:
    """Names and shapes of a state_dict, read as fields of `plan.model`."""

    def __init__(self, source: Source) -> None:
        self._source, self._names = source, list(source.tensors)
        found = (re.match(r"nodes\.x_(\d+)_(\d+)\.", name) for name in self._names)
        self.nodes = {(int(match[1]), int(match[2])) for match in found if match}
        self.depth = max(map(sum, self.nodes))
        self.heads = {int(name.split(".")[1]) for name in self._names if re.fullmatch(r"heads\.\d+\.weight", name)}

    def fields(self) -> dict[str, Any]:
        """Return the fields that the tensors tell."""
        head = self._source.shape(f"heads.{self.depth}.weight")
        dims, nested = len(head) - 2, [self._nested(level) for level in range(self.depth)]
        fields: dict[str, Any] = {
            "dims": dims,
            "out_channels": head[0],
            "depth": self.depth,
            "deep_supervision": min(self.heads) < self.depth or self.depth == 1,
            "head_kernel": head[2],
            "head_bias": self._source.has(f"heads.{self.depth}.bias"),
            "nested_widths": [self._width(node) for node in nested],
            "nested_kernel_sizes": [self._kernel(node) for node in nested],
            "node_widths": {
                f"{level}_{column}": self._width((level, column))
                for level, column in self.nodes
                if column and self._width((level, column)) != self._width(nested[level])
            },
            "attention": "scse" if any(".channel.0." in name for name in self._names) else "none",
            "fusion": "learned" if self._source.has("fusion.weights") else "none",
        }
        fields |= self._encoder() | self._norm() | self._ups(dims) | self._shells()
        if self._source.has("downs.0.conv.weight"):
            fields["down"] = "conv"
        if self.depth > 1 and (0, 1) not in self.nodes:
            fields["topology"] = "unet"
        for name, usual in {
            "up_widths": "nested_widths",
            "nested_widths": "widths",
            "nested_kernel_sizes": "kernel_sizes",
        }.items():
            if name in fields and fields[name] == fields.get(usual, ())[: self.depth]:
                del fields[name]
        return fields

    def _encoder(self) -> dict[str, Any]:
        """Read widths and kernels of X[i, 0]; those of an encoder of timm follow from its name."""
        if any(name.startswith("encoder.") for name in self._names):
            first = next(shape for shape in self._shapes("encoder.") if len(shape) == 4)
            stem = (0, 0) in self.nodes
            width = self._width((0, 0) if stem else self._nested(0))
            return {"in_channels": first[1], "stem": stem, "first_width": width}
        column = [(level, 0) for level in range(self.depth + 1)]
        fields: dict[str, Any] = {
            "in_channels": next(self._convolutions((0, 0)))[1],
            "widths": [self._width(node) for node in column],
            "kernel_sizes": [self._kernel(node) for node in column],
        }
        if any(name.startswith("nodes.x_1_0.units.0.0.") for name in self._names):
            stages = [f"nodes.x_{level}_0.units.{int(level == 0)}." for level in range(self.depth + 1)]
            blocks = [{name.split(".")[4] for name in self._names if name.startswith(stage)} for stage in stages]
            return fields | {"encoder": "resenc", "encoder_blocks": [len(each) for each in blocks]}
        units = [name for name in self._names if re.fullmatch(r"nodes\.x_0_0\.units\.\d+\.conv\.weight", name)]
        least = min(shape[0] for shape in self._convolutions(self._nested(0)))
        fraction = least / self._width(self._nested(0))
        return fields | {"convs_per_node": len(units), "hidden_fraction": fraction}

    def _shells(self) -> dict[str, Any]:
        """Read nested widths: what the heads at full depth receive."""
        full = [number for number in sorted(self.heads) if number % self.depth == 0]
        channels = [self._source.shape(f"heads.{number}.weight")[1] for number in full]
        return {"shells": [each / channels[-1] for each in channels]} if len(channels) > 1 else {}

    def _norm(self) -> dict[str, Any]:
        """Read the kind of normalization, as far as its tensors tell, and whether convolutions have a bias."""
        kinds = [
            self._norm_of(nodes) for nodes in ([n for n in self.nodes if not n[1]], [n for n in self.nodes if n[1]])
        ]
        first, nested = kinds[0] or kinds[1], kinds[1]
        fields = {} if first == "affine" else {"norm": first}
        if nested != first and nested != "affine":
            fields["nested_norm"] = nested
        biased = any(
            re.search(r"\.units\.0\.(units\.0\.)?conv\.bias$", name) for name in self._names if "_0.units" in name
        )
        return fields | ({"conv_bias": True} if biased and first != "none" else {})

    def _norm_of(self, nodes: Sequence[tuple[int, int]]) -> str:
        names = [name for name in self._names if name.startswith(tuple(f"nodes.x_{i}_{j}." for i, j in nodes))]
        if not nodes:
            return ""
        if any(name.endswith("running_mean") for name in names):
            return "batch"
        return "affine" if any(name.endswith(".norm.weight") for name in names) else "none"

    def _ups(self, dims: int) -> dict[str, Any]:
        """Read the kind of up-sampling, its channels, and the strides that its kernels tell."""
        names = [f"ups.x_{level}_{column}" for level, column in map(self._nested, range(self.depth))]
        if all(self._source.has(f"{name}.weight") for name in names):
            shapes = [self._source.shape(f"{name}.weight") for name in names]
            kernels = [shape[2:] for shape in shapes]
            wide = max(size for kernel in kernels for size in kernel) > 3
            strides = [[WIDE_STEPS.get(size, size) for size in kernel] if wide else list(kernel) for kernel in kernels]
            kind, widths, layer = "transposed_wide" if wide else "transposed", [shape[1] for shape in shapes], ""
            return {"up": kind, "strides": strides, "up_widths": widths, "up_bias": self._has_bias(names, layer)}
        if all(self._source.has(f"{name}.conv.weight") for name in names):
            widths = [self._source.shape(f"{name}.conv.weight")[0] // 2**dims for name in names]
            return {"up": "pixel_shuffle", "up_widths": widths, "up_bias": self._has_bias(names, ".conv")}
        if not any(self._source.has(f"{name}.0.weight") for name in names):
            return {}
        below = [self._width((level + 1, column - 1)) for level, column in map(self._nested, range(self.depth))]
        widths = [  # equal ones need no convolution
            self._source.shape(f"{name}.0.weight")[0] if self._source.has(f"{name}.0.weight") else same
            for name, same in zip(names, below, strict=True)
        ]
        return {"up_projection": True, "up_widths": widths, "up_bias": self._has_bias(names, ".0")}

    def _has_bias(self, names: Sequence[str], layer: str) -> bool:
        return any(self._source.has(f"{name}{layer}.bias") for name in names)

    def _nested(self, level: int) -> tuple[int, int]:
        """Return the first nested node of a level."""
        return min((node for node in self.nodes if node[0] == level and node[1]), default=(level, 1))

    def _shapes(self, prefix: str) -> Iterator[tuple[int, ...]]:
        return (tuple(each.shape) for name, each in self._source.tensors.items() if name.startswith(prefix))

    def _convolutions(self, node: tuple[int, int]) -> Iterator[tuple[int, ...]]:
        """Yield the shapes of the convolutions of a node; there is at least one."""
        prefix = f"nodes.x_{node[0]}_{node[1]}."
        names = [name for name in self._names if name.startswith(prefix) and name.endswith(".conv.weight")]
        return map(self._source.shape, names or [f"{prefix}units.0.conv.weight"])

    def _width(self, node: tuple[int, int]) -> int:
        return max(shape[0] for shape in self._convolutions(node))

    def _kernel(self, node: tuple[int, int]) -> tuple[int, ...]:
        kernels = (shape[2:] for shape in self._convolutions(node))
        return max(kernels, key=prod)
