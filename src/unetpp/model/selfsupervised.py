"""Public weights for the residual encoder: of self-supervised 3D models (nnssl, OpenMind) and of nnU-Net v2's ResEncUNet.

These files name the parts of the encoder alike: `encoder.stem.convs.0` and `encoder.stages.S.blocks.B` with `conv1`, `conv2`
and `skip.N`, each of a `conv` and a `norm`. A tensor is taken where our encoder has a place of the same name and shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from unetpp.errors import ModelFileError
from unetpp.model.foreign import read_foreign

STEM = "stem.convs.0.conv.weight"
_THEIRS = re.compile(
    r"(?P<prefix>(?:.*\.)?)(?P<name>(?:stem\.convs\.0|stages\.\d+\.blocks\.\d+\.(?:conv1|conv2|skip\.\d+))\.(?:conv|norm)\.\w+)"
)
_OURS = re.compile(
    r"nodes\.x_(?P<level>\d+)_0\.units\.(?P<unit>\d+)\.(?:(?P<block>\d+)\.(?P<part>units|shortcut)\.(?P<number>\d+)\.)?(?P<rest>.+)"
)


@dataclass(frozen=True)
class Transfer:
    """What became of the weights of a file."""

    taken: tuple[str, ...]
    """Names of the network's tensors that now have the file's values."""
    adapted: tuple[str, ...]
    """Those among them that were made for another number of input channels."""
    misfits: Mapping[str, str]
    """Names of the network's tensors that kept their values because the file's have another shape, and both shapes."""
    absent: tuple[str, ...]
    """Names of the network's tensors that the file does not have."""
    unplaced: tuple[str, ...]
    """Names of the file's encoder that the network has no place for."""

    def __str__(self) -> str:
        total = len(self.taken) + len(self.misfits) + len(self.absent)
        parts = [f"{len(self.taken)} of the encoder's {total} tensors were taken"]
        if self.adapted:
            parts.append("the first convolution was adapted to the number of channels")
        parts += [f"{name} was not: {shapes}" for name, shapes in self.misfits.items()]
        parts += [
            f"{text}: {_some(names)}"
            for text, names in (("not in the file", self.absent), ("no place for", self.unplaced))
            if names
        ]
        return "; ".join(parts)


def load_encoder(network: nn.Module, path: Path) -> Transfer:
    """Give the residual encoder of a network the weights of a file, as far as they fit.

    A first convolution for another number of channels is adapted: each gets the sum of the file's, divided by their number, so that
    channels that are all alike give what the file's one channel gave.

    Raises:
        ModelFileError: the file cannot be read, or nothing in it fits.
    """
    theirs = _encoder_of(path)
    ours = {name: weight for name, weight in network.state_dict().items() if their_name(name)}
    fitting: dict[str, Tensor] = {}
    adapted, misfits = [], {}
    for name, weight in ours.items():
        source = theirs.get(their_name(name))
        if source is None:
            continue
        if their_name(name) == STEM and source.shape != weight.shape and source.ndim == weight.ndim:
            source = (
                source.sum(dim=1, keepdim=True).expand(-1, weight.shape[1], *[-1] * (weight.ndim - 2)) / weight.shape[1]
            )
            adapted.append(name)
        if source.shape == weight.shape:
            fitting[name] = source
        else:
            misfits[name] = f"{_shape(source)} in the file, {_shape(weight)} in the network"
    if not any(name.endswith("conv.weight") for name in fitting):
        reasons = (
            "; ".join(f"{name}: {shapes}" for name, shapes in list(misfits.items())[:2])
            or f"its encoder has no {_some([their_name(name) for name in ours])}"
        )
        raise ModelFileError(
            f"{path}: got no weights that fit the network ({reasons}); expected those of its encoder. Set model.dims, model.widths and model.encoder_blocks as in the file."
        )
    network.load_state_dict(fitting, strict=False)
    used = {their_name(name) for name in ours}
    absent = tuple(name for name in ours if their_name(name) not in theirs)
    return Transfer(
        tuple(fitting),
        tuple(name for name in adapted if name in fitting),
        misfits,
        absent,
        tuple(name for name in theirs if name not in used),
    )


def their_name(ours: str) -> str:
    """The name in a file of a tensor of our encoder; empty for all others."""
    found = _OURS.fullmatch(ours)
    if not found:
        return ""
    rest = found["rest"].replace("norm.norm.", "norm.")
    if found["block"] is None:
        return f"stem.convs.0.{rest}"
    part = f"skip.{found['number']}" if found["part"] == "shortcut" else f"conv{int(found['number']) + 1}"
    return f"stages.{found['level']}.blocks.{found['block']}.{part}.{rest}"


def _encoder_of(path: Path) -> dict[str, Tensor]:
    """The encoder's tensors of a file, by their names after `encoder.`.

    The same tensors may be there more than once (`all_modules`, `decoder.encoder`), and behind `module.` or `_orig_mod.`.
    """
    content = read_foreign(path)
    if not isinstance(content, dict):
        raise ModelFileError(
            f"{path}: got {type(content).__name__}; expected a checkpoint, which is a dictionary. Take the file that nnssl or nnU-Net wrote."
        )
    for weights in (content, *(value for value in content.values() if isinstance(value, dict))):
        columns: dict[str, dict[str, Tensor]] = {}
        for name, weight in weights.items():
            found = _THEIRS.fullmatch(str(name))
            if found and isinstance(weight, Tensor) and "decoder." not in found["prefix"]:
                columns.setdefault(found["prefix"], {})[found["name"]] = weight
        if columns:
            return max(columns.values(), key=len)
    raise ModelFileError(
        f"{path}: got {_some([str(name) for name in content])}; expected names like encoder.stages.0.blocks.0.conv1.conv.weight. Take the checkpoint of a ResEnc network."
    )


def _shape(weight: Tensor) -> str:
    return " x ".join(map(str, weight.shape))


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
