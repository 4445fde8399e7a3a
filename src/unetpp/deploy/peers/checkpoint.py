"""The tensors of a checkpoint that another library wrote. Nothing is ever unpickled but tensors."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unetpp.errors import ModelFileError

NESTED_AT = ("state_dict", "model_state_dict", "model", "network", "net", "network_weights")
"""Where trainers put the state_dict in their checkpoints, the likeliest first."""
HOW_TO_SAVE = (
    'Where the checkpoint was made, and is trusted, save its tensors alone: torch.save(model.state_dict(), "weights.pt"), '
    'or torch.save(torch.load(FILE, weights_only=False)["state_dict"], "weights.pt") where it is one entry of several; then import weights.pt.'
)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The state_dict in a file of torch (.pt, .pth, .ckpt, .model, ...) or in a .safetensors, by the names in the file.

    Raises:
        ModelFileError: absent, truncated, no checkpoint, or a checkpoint with pickled objects (none of which is made).
    """
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        raise ModelFileError(f"{path}: got {got}; expected a checkpoint: a state_dict that torch.save wrote, or a .safetensors. Check the path.")
    found = _state_dict(_read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path))
    if found is None:
        raise ModelFileError(f"{path}: got a file without a state_dict; expected one, by itself or as the entry {NESTED_AT[0]!r}. {HOW_TO_SAVE}")
    return found


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            if "unetpp" in (file.metadata() or {}):
                raise ModelFileError(f"{path}: got a model file of unetpp; expected the checkpoint of another library. Use it as it is: unetpp predict {path} IMAGES --out DIR")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
    except (SafetensorError, OSError) as error:
        _refuse_damaged(path, error)


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "nsupported class" in str(error) or "nsupported global" in str(error):
            raise ModelFileError(
                f"{path}: got a checkpoint with pickled objects, such as a whole module or numbers of numpy; expected tensors only. None of them was made: "
                f"that would run code of the file. {HOW_TO_SAVE}"
            ) from None
        _refuse_damaged(path, "it does not hold what torch.save writes")
    except RuntimeError as error:
        if "TorchScript" in str(error):
            raise ModelFileError(f"{path}: got a TorchScript program; expected tensors only. {HOW_TO_SAVE}") from None
        _refuse_damaged(path, error)
    except OSError as error:
        _refuse_damaged(path, error)
    except (EOFError, LookupError, ValueError, TypeError, AttributeError):  # what the reader of pickles meets in other files
        _refuse_damaged(path, "it does not hold what torch.save writes")


def _refuse_damaged(path: Path, error: Exception | str) -> NoReturn:
    reason = getattr(error, "strerror", None) or str(error).split(". ")[0]
    raise ModelFileError(f"{path}: got a file that is truncated or no checkpoint ({reason}); expected what torch.save wrote, or a .safetensors. Copy it again.") from None


def _state_dict(content: Any) -> dict[str, Tensor] | None:
    """The state_dict that a checkpoint is, or has in one of its entries."""
    if not isinstance(content, Mapping):
        return None
    if content and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
        return dict(content)
    entries = {name: found for name, value in content.items() if (found := _state_dict(value))}
    named = next((entries[name] for name in NESTED_AT if name in entries), None)
    return named or max(entries.values(), key=len, default=None)
