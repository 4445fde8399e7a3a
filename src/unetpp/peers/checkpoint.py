"""Tensors of a checkpoint that another library wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from unetpp.errors import ModelFileError
from unetpp.model.foreign import HOW_TO_SAVE, read_foreign
from unetpp.words import write_command

NESTED_AT = ("state_dict", "model_state_dict", "model", "network", "net", "network_weights")
"""Entries under which trainers store the state_dict in their checkpoints, the likeliest first."""


FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")
"""Files that `save_pretrained` of the Hugging Face hub writes into a folder, beside config.json."""


def find_checkpoint(path: Path) -> Path:
    """Return the file of weights in a folder of `save_pretrained`; any other path is returned as it is."""
    return next((path / name for name in FOLDER_FILES if (path / name).is_file()), path)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the state_dict in a file of torch.save or in a .safetensors.

    Returns:
        The tensors, by their names in the file.

    Raises:
        ModelFileError: absent, truncated, not a checkpoint, a model file of unetpp, or a checkpoint with pickled
            objects (none of which is unpickled).
    """
    found = _find_state_dict(read_foreign(path))
    if found is None:
        expected = f"one, by itself or as the entry {NESTED_AT[0]!r}"
        raise ModelFileError(path, "a file without a state_dict", expected, HOW_TO_SAVE)
    if _is_model_file(path):
        action = f"Use it as it is: `{write_command('predict', path, 'new_images', '--out', 'predictions')}`."
        raise ModelFileError(path, "a model file of unetpp", "the checkpoint of another library", action)
    return found


def _is_model_file(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return "unetpp" in (file.metadata() or {})
    except SafetensorError:
        return False


def _find_state_dict(content: Any) -> dict[str, Tensor] | None:
    """Return the content itself if it is a state_dict, else the likeliest one among its entries."""
    if not isinstance(content, Mapping):
        return None
    if content and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
        return dict(content)
    entries = {name: found for name, value in content.items() if (found := _find_state_dict(value))}
    named = next((entries[name] for name in NESTED_AT if name in entries), None)
    return named or max(entries.values(), key=len, default=None)
