"""Files of other libraries, read weights-only: tensors, texts and numbers. Nothing else is ever unpickled."""

from __future__ import annotations

import mmap
import pickle
import zipfile
from pathlib import Path
from typing import IO, Any, NoReturn, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from unetpp.errors import ModelFileError, is_out_of_memory
from unetpp.model.header import PICKLE, ZIP

_SCALAR: Any = np.float64(0).__reduce__()[0]
_NUMBERS = [np.dtype, _SCALAR, (_SCALAR, "numpy.core.multiarray.scalar"), *map(type, map(np.dtype, ("f4", "f8", "i8")))]
"""Types that checkpoints of nnU-Net, v1 and v2, hold besides tensors: the scores in their logs."""
HOW_TO_SAVE = (
    "Where the checkpoint was made, and is trusted, save its tensors alone: "
    'torch.save(model.state_dict(), "weights.pt"), or '
    'torch.save(torch.load(FILE, weights_only=False)["state_dict"], "weights.pt") if it is one entry of several; '
    "then give weights.pt."
)
_CODE = ("unsupported class", "unsupported global", "unsupported operand")
"""Words of torch about a pickle that would make objects or call functions."""
CHECKPOINT = "what torch.save wrote, or a .safetensors"


def read_foreign(path: Path) -> Any:
    """Read a file of torch (.pt, .pth, .ckpt, .model, ...) or a .safetensors, on the CPU.

    Raises:
        ModelFileError: the file is absent, truncated, no checkpoint, or a checkpoint with pickled objects (none of them
            is created).
    """
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        raise ModelFileError(path, got, f"a checkpoint: {CHECKPOINT}", "Check the path.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_NUMBERS):
            if zipfile.is_zipfile(path):
                return torch.load(path, map_location="cpu", weights_only=True)
            # torch's old format: a file object would reserve what a damaged length claims, a map reads what is there
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return torch.load(cast(IO[bytes], content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if any(word in str(error).lower() for word in _CODE) and _is_of_torch(path):
            got = "a checkpoint with pickled objects, such as a whole module"
            action = f"None of them was created: that would run code of the file. {HOW_TO_SAVE}"
            raise ModelFileError(path, got, "tensors and numbers only", action) from None
        _refuse_damaged(path, "it does not hold what torch.save writes")
    except RuntimeError as error:
        if "TorchScript" in str(error):
            raise ModelFileError(path, "a TorchScript program", "tensors only", HOW_TO_SAVE) from None
        _refuse_damaged(path, error)
    except (OSError, SafetensorError) as error:
        _refuse_damaged(path, error)
    except Exception as error:  # the unpickler's errors for other files: assertions, struct.error, ...
        if is_out_of_memory(error):
            raise
        _refuse_damaged(path, "it does not hold what torch.save writes")


def _is_of_torch(path: Path) -> bool:
    """Tell whether a file begins as torch.save writes it: the letters of a text can be operations of a pickle."""
    with path.open("rb") as file:
        return file.read(4).startswith((ZIP, PICKLE))


def _refuse_damaged(path: Path, error: Exception | str) -> NoReturn:
    reason = getattr(error, "strerror", None) or str(error).split(". ")[0]
    raise ModelFileError(
        path, f"a file that is truncated or no checkpoint ({reason})", CHECKPOINT, "Copy it again."
    ) from None
