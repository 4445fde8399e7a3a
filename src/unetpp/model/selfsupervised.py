"""Public weights for the residual encoder: self-supervised 3D models (nnssl, OpenMind) and nnU-Net v2's ResEncUNet.

These files name the layers of the encoder alike: `encoder.stem.convs.0` and `encoder.stages.S.blocks.B` with `conv1`,
`conv2` and `skip.N`, each with a `conv` and a `norm`. A tensor is loaded if the network has one of that name and shape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from unetpp.errors import ModelFileError
from unetpp.model.foreign import read_foreign
from unetpp.words import list_some

STEM = "stem.convs.0.conv.weight"
_THEIRS = re.compile(
    r"(?P<prefix>(?:.*\.)?)"
    r"(?P<name>(?:stem\.convs\.0|stages\.\d+\.blocks\.\d+\.(?:conv1|conv2|skip\.\d+))\.(?:conv|norm)\.\w+)"
)
_OURS = re.compile(
    r"nodes\.x_(?P<level>\d+)_0\.units\.(?P<unit>\d+)\."
    r"(?:(?P<block>\d+)\.(?P<part>units|shortcut)\.(?P<number>\d+)\.)?(?P<rest>.+)"
)


@dataclass(frozen=True)
class Transfer:
    """Tensors of a file that were loaded into a network, and those that were not."""

    taken: tuple[str, ...]
    """Tensors of the network that were loaded from the file."""
    adapted: tuple[str, ...]
    """Loaded tensors that were made for another number of input channels."""
    misfits: Mapping[str, str]
    """Tensors of the network that have another shape in the file: both shapes by name."""
    absent: tuple[str, ...]
    """Tensors of the network that the file does not have."""
    unplaced: tuple[str, ...]
    """Tensors of the encoder in the file that the network does not have."""

    def __str__(self) -> str:
        total = len(self.taken) + len(self.misfits) + len(self.absent)
        parts = [f"{len(self.taken)} of the encoder's {total} tensors were loaded"]
        if self.adapted:
            parts.append("the first convolution was adapted to the number of channels")
        parts += [f"{name} was not loaded: {shapes}" for name, shapes in self.misfits.items()]
        parts += [
            f"{text}: {list_some(names)}"
            for text, names in (("not in the file", self.absent), ("not in the network", self.unplaced))
            if names
        ]
        return "; ".join(parts)


def load_encoder(network: nn.Module, path: Path) -> Transfer:
    """Load the weights of a file into the residual encoder of a network, as far as they fit.

    A first convolution for another number of channels is adapted: each channel gets the sum of the file's channels
    divided by the number of channels, so that equal channels give the output of the file's single channel.

    Raises:
        ModelFileError: the file cannot be read, or nothing in it fits.
    """
    theirs = _read_encoder(path)
    ours = {name: weight for name, weight in network.state_dict().items() if name_in_file(name)}
    fitting: dict[str, Tensor] = {}
    adapted, misfits = [], {}
    for name, weight in ours.items():
        source = theirs.get(name_in_file(name))
        if source is None:
            continue
        if name_in_file(name) == STEM and source.shape != weight.shape and source.ndim == weight.ndim:
            channels = weight.shape[1]
            source = source.sum(dim=1, keepdim=True).expand(-1, channels, *[-1] * (weight.ndim - 2)) / channels
            adapted.append(name)
        if source.shape == weight.shape:
            fitting[name] = source
        else:
            misfits[name] = f"{_format_shape(source)} in the file, {_format_shape(weight)} in the network"
    if not any(name.endswith("conv.weight") for name in fitting):
        reasons = (
            "; ".join(f"{name}: {shapes}" for name, shapes in list(misfits.items())[:2])
            or f"its encoder has no {list_some(name_in_file(name) for name in ours)}"
        )
        got = f"no weights that fit the network ({reasons})"
        action = "Set model.dims, model.widths and model.encoder_blocks as in the file."
        raise ModelFileError(path, got, "those of its encoder", action)
    network.load_state_dict(fitting, strict=False)
    used = {name_in_file(name) for name in ours}
    absent = tuple(name for name in ours if name_in_file(name) not in theirs)
    return Transfer(
        tuple(fitting),
        tuple(name for name in adapted if name in fitting),
        misfits,
        absent,
        tuple(name for name in theirs if name not in used),
    )


def name_in_file(ours: str) -> str:
    """Translate the name of a tensor of the residual encoder to that in a file; empty for other tensors."""
    found = _OURS.fullmatch(ours)
    if not found:
        return ""
    rest = found["rest"].replace("norm.norm.", "norm.")
    if found["block"] is None:
        return f"stem.convs.0.{rest}"
    part = f"skip.{found['number']}" if found["part"] == "shortcut" else f"conv{int(found['number']) + 1}"
    return f"stages.{found['level']}.blocks.{found['block']}.{part}.{rest}"


def _read_encoder(path: Path) -> dict[str, Tensor]:
    """Read the tensors of the encoder in a file, by their names after `encoder.`.

    A tensor may be there more than once (`all_modules`, `decoder.encoder`), and behind `module.` or `_orig_mod.`.
    """
    content = read_foreign(path)
    if not isinstance(content, dict):
        expected, action = "a checkpoint, which is a dictionary", "Take the file that nnssl or nnU-Net wrote."
        raise ModelFileError(path, type(content).__name__, expected, action)
    for weights in (content, *(value for value in content.values() if isinstance(value, dict))):
        columns: dict[str, dict[str, Tensor]] = {}
        for name, weight in weights.items():
            found = _THEIRS.fullmatch(str(name))
            if found and isinstance(weight, Tensor) and "decoder." not in found["prefix"]:
                columns.setdefault(found["prefix"], {})[found["name"]] = weight
        if columns:
            return max(columns.values(), key=len)
    expected = "names like encoder.stages.0.blocks.0.conv1.conv.weight"
    got = list_some(content) or "no entries"
    raise ModelFileError(path, got, expected, "Take the checkpoint of a ResEnc network.")


def _format_shape(weight: Tensor) -> str:
    return " x ".join(map(str, weight.shape))
