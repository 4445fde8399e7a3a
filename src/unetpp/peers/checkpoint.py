"""The tensors of a checkpoint that another library wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from unetpp.errors import ModelFileError
from unetpp.model.foreign import HOW_TO_SAVE, read_foreign

NESTED_AT = ("state_dict", "model_state_dict", "model", "network", "net", "network_weights")
"""Where trainers put the state_dict in their checkpoints, the likeliest first."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The state_dict in a file of torch or in a .safetensors, by the names in the file.

    Raises:
        ModelFileError: absent, truncated, no checkpoint, a checkpoint with pickled objects (none of which is made), or a model file of ours.
    """
    found = _state_dict(read_foreign(path))
    if found is None:
        raise ModelFileError(
            f"{path}: got a file without a state_dict; expected one, by itself or as the entry {NESTED_AT[0]!r}. {HOW_TO_SAVE}"
        )
    if _is_ours(path):
        raise ModelFileError(
            f"{path}: got a model file of unetpp; expected the checkpoint of another library. Use it as it is: unetpp predict {path} IMAGES --out DIR"
        )
    return found


def _is_ours(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return "unetpp" in (file.metadata() or {})
    except SafetensorError:
        return False


def _state_dict(content: Any) -> dict[str, Tensor] | None:
    """The state_dict that a checkpoint is, or has in one of its entries."""
    if not isinstance(content, Mapping):
        return None
    if content and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
        return dict(content)
    entries = {name: found for name, value in content.items() if (found := _state_dict(value))}
    named = next((entries[name] for name in NESTED_AT if name in entries), None)
    return named or max(entries.values(), key=len, default=None)
