"""Where the first weights of an encoder come from: timm's hub, or a file. Nothing is unpickled but tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from unetpp.errors import ModelFileError, UsageError
from unetpp.model.timm_models import TimmModel, first_line, import_timm, pretrained_config
from unetpp.progress import mute_warnings

DOWNLOAD = "pretrained"
HUB_FILE = "https://huggingface.co/{}/resolve/main/{}"
OWN_FILE = "--set model.encoder_weights=PATH (.safetensors, or a state_dict in .pth or .bin)"


def pretrained_body(model: TimmModel, in_channels: int, source: str, needed: Sequence[str]) -> Any:
    """A model of timm, whole, with weights. Those of the first convolution are adapted to other channels as timm does it.

    Args:
        source: "pretrained", or the path of a file.
        needed: names of the weights that the file must have.

    Raises:
        UsageError: there are none, or they cannot be downloaded; the message names the file to get.
        ModelFileError: the file cannot be read, or its weights are not those of this model.
    """
    return (
        _downloaded(model, in_channels) if source == DOWNLOAD else _from_file(model, in_channels, Path(source), needed)
    )


def require_source(source: str) -> None:
    """Check what can be checked before a training starts.

    Raises:
        ModelFileError: neither "pretrained" nor a file.
    """
    if source != DOWNLOAD and not Path(source).is_file():
        raise ModelFileError(
            f'model.encoder_weights: got {source!r}, which is no file; expected "{DOWNLOAD}", or the path of a .safetensors, .pth or .bin. Check the path.'
        )


def _downloaded(model: TimmModel, in_channels: int) -> Any:
    config = pretrained_config(model.name)
    if not config.has_weights:
        raise UsageError(
            f'model.encoder_weights: got "{DOWNLOAD}"; expected a model that timm has weights for: {model.name} is none. Take another, or give a file: {OWN_FILE}.'
        )
    place = (
        HUB_FILE.format(config.hf_hub_id, config.hf_hub_filename or "model.safetensors")
        if config.hf_hub_id
        else config.url
    )
    try:
        with mute_warnings(
            "huggingface_hub"
        ):  # not a warning for each of its attempts: what comes of them is said below
            return model.create(in_channels, pretrained=True)
    except Exception as error:  # of the network, the hub or the disk: each library has its own
        raise UsageError(
            f'model.encoder_weights: got nothing for "{DOWNLOAD}" ({first_line(error)}); expected to download {place}. '
            f"Get this file where there is a connection, and give it: {OWN_FILE}. Or train without: --set model.encoder_weights=null"
        ) from None


def _from_file(model: TimmModel, in_channels: int, path: Path, needed: Sequence[str]) -> Any:
    weights = _read_weights(path)
    names = set(weights)
    # a number of classes that no model has: then timm drops the classifier, whatever its size, and minds no other extras
    source = {"state_dict": weights, "num_classes": -1}
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            random = model.create(in_channels, num_classes=0).state_dict()
            torch.manual_seed(0)
            body = model.create(in_channels, num_classes=0, pretrained=True, pretrained_cfg_overlay=source)
    except Exception as error:  # whatever timm's own conversions make of a foreign file
        raise ModelFileError(
            f"{path}: got weights that do not fit ({first_line(error)}); expected those of {model.name} of timm. Give its file, or set model.encoder."
        ) from None
    loaded = body.state_dict()
    # timm may rename what it reads: missing is what has no namesake and is as random as before
    missing = [name for name in needed if name not in names and torch.equal(loaded[name], random[name])]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ModelFileError(
            f"{path}: got no weights for {', '.join(missing[:3])}{more}; expected all that the encoder needs of {model.name} of timm. Give its file, or set model.encoder."
        )
    return body


def _read_weights(path: Path) -> dict[str, Tensor]:
    """A state_dict, out of the wrappings that trainings put around it."""
    require_source(str(path))
    try:
        weights: dict[str, Tensor] = import_timm().models.load_state_dict(str(path), weights_only=True)
        if not all(isinstance(weight, Tensor) for weight in weights.values()):
            raise ValueError("it holds more than tensors")
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError, AttributeError) as error:
        raise ModelFileError(
            f"{path}: got a file that cannot be read ({first_line(error)}); expected a state_dict, as .safetensors, .pth or .bin. Copy it again."
        ) from None
    return weights
