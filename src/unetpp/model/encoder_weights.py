"""Initial weights of an encoder, from timm's hub or from a file. Only tensors are unpickled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from unetpp.errors import ModelFileError, UsageError
from unetpp.model.timm_models import TimmModel, format_error, get_pretrained_config, import_timm
from unetpp.progress import mute_warnings
from unetpp.words import list_some

DOWNLOAD = "pretrained"
HUB_FILE = "https://huggingface.co/{}/resolve/main/{}"
FROM_FILE = "`model.encoder_weights=PATH` (.safetensors, or a state_dict in .pth or .bin)"
GIVE_ITS_FILE = "Give its file, or set model.encoder."


def make_pretrained_body(model: TimmModel, in_channels: int, source: str, needed: Sequence[str]) -> Any:
    """Make a whole model of timm with weights; timm adapts those of the first convolution to other channels.

    Args:
        model: the model of timm.
        in_channels: number of channels of the image.
        source: "pretrained", or the path of a file.
        needed: names of the weights that the file must have.

    Returns:
        The module, as timm makes it.

    Raises:
        UsageError: timm has no weights, or they cannot be downloaded; the message names the file to get.
        ModelFileError: the file cannot be read, or its weights are not those of this model.
    """
    if source == DOWNLOAD:
        return _download(model, in_channels)
    return _read_body(model, in_channels, Path(source), needed)


def require_source(source: str) -> None:
    """Check before training that `source` is "pretrained" or a file.

    Raises:
        ModelFileError: it is neither.
    """
    if source != DOWNLOAD and not Path(source).is_file():
        expected = f'"{DOWNLOAD}", or the path of a .safetensors, .pth or .bin'
        elsewhere = source in ("imagenet", "noisy-student", "advprop", "ssl", "swsl", "instagram", "DEFAULT")
        action = f"{source!r} is `model.encoder_weights={DOWNLOAD}` here." if elsewhere else "Check the path."
        raise ModelFileError("model.encoder_weights", f"{source!r}, which is no file", expected, action)


def _download(model: TimmModel, in_channels: int) -> Any:
    config = get_pretrained_config(model.name)
    if not config.has_weights:
        expected = f"a model that timm has weights for: {model.name} is none"
        action = f"Take another, or give a file: {FROM_FILE}."
        raise UsageError("model.encoder_weights", f'"{DOWNLOAD}"', expected, action)
    url = config.url
    if config.hf_hub_id:
        url = HUB_FILE.format(config.hf_hub_id, config.hf_hub_filename or "model.safetensors")
    try:
        with mute_warnings(
            "huggingface_hub"
        ):  # no warning for each of its attempts: the error below says how they ended
            return model.create(in_channels, pretrained=True)
    except Exception as error:  # of the network, the hub or the disk: each library has its own
        got = f'nothing for "{DOWNLOAD}" ({format_error(error)})'
        action = (
            f"Get this file where there is a connection, and give it: {FROM_FILE}. "
            "Or train without: `model.encoder_weights=null`."
        )
        raise UsageError("model.encoder_weights", got, f"to download {url}", action) from None


def _read_body(model: TimmModel, in_channels: int, path: Path, needed: Sequence[str]) -> Any:
    weights = _read_weights(path)
    names = set(weights)
    # with a number of classes that no model has, timm drops the classifier of any size and ignores other extra tensors
    source = {"state_dict": weights, "num_classes": -1}
    try:
        with torch.random.fork_rng(devices=[]), mute_warnings("timm"):
            torch.manual_seed(0)
            random = model.create(in_channels, num_classes=0).state_dict()
            torch.manual_seed(0)
            body = model.create(in_channels, num_classes=0, pretrained=True, pretrained_cfg_overlay=source)
    except Exception as error:  # of any kind: timm converts foreign files
        got, expected = f"weights that do not fit ({format_error(error)})", f"those of {model.name} of timm"
        raise ModelFileError(path, got, expected, GIVE_ITS_FILE) from None
    loaded = body.state_dict()
    # timm may rename tensors: missing are those without a namesake in the file that are as random as before
    missing = [name for name in needed if name not in names and torch.equal(loaded[name], random[name])]
    if missing:
        expected = f"all that the encoder needs of {model.name} of timm"
        raise ModelFileError(path, f"no weights for {list_some(missing)}", expected, GIVE_ITS_FILE)
    return body


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state_dict, unwrapped from the containers that training scripts put around it."""
    require_source(str(path))
    try:
        weights: dict[str, Tensor] = import_timm().models.load_state_dict(str(path), weights_only=True)
        if not all(isinstance(weight, Tensor) for weight in weights.values()):
            raise ValueError("it holds more than tensors")
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError, AttributeError) as error:
        got = f"a file that cannot be read ({format_error(error)})"
        raise ModelFileError(path, got, "a state_dict, as .safetensors, .pth or .bin", "Copy it again.") from None
    return weights
