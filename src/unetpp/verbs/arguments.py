"""Arguments of the verbs: their types, and what several verbs check of them.

Heavy modules are imported inside the verbs: `info` and the help of the commands must not wait for torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from unetpp.errors import UsageError

AnyPath = str | PathLike[str]
Settings = Mapping[str, Any] | Sequence[str]
"""{"section.key": value} or ["section.key=value"]."""
Minutes = float | str
"""Minutes, or "+10": 10 more for a finished training."""
Epochs = int | str
"""Epochs, or "+5": 5 more for a finished training."""
Backend = Literal["auto", "torch", "openvino", "cuda"]
Library = Literal["smp", "monai", "nested-unet", "unet-version", "pms", "nnunet-v1"]


def find_model(model: AnyPath) -> Path:
    """Return the path of a model; hf://OWNER/NAME is downloaded, unless it is in the cache."""
    from unetpp.infer.hub_file import HUB, download

    path = Path(model)  # makes hf://a/b hf:/a/b, as on the command line
    first, *names = path.parts or [""]
    return download("/".join(names)) if first == HUB.rstrip("/") else path


def list_paths(paths: AnyPath | Sequence[AnyPath]) -> list[Path]:
    return [Path(path) for path in ([paths] if isinstance(paths, (str, PathLike)) else paths)]


def require_model_name(out: Path, unlike: Path) -> None:
    """Raise UsageError unless `out` is the name of a model file, and not the file that is read."""
    if out.suffix != ".safetensors":
        raise UsageError("out", repr(str(out)), "the name of a model file, ending in .safetensors")
    if out.resolve() == unlike.resolve():
        raise UsageError("out", f"{out}, which is the input", "another file", "Choose another name.")
