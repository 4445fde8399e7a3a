"""One function that loads everything that predicts. Imports torch only where it is needed."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetpp.errors import UsageError, naming_missing
from unetpp.infer.exported_predictor import ExportedPredictor, load_exported
from unetpp.infer.hub_file import HUB, download
from unetpp.model_notes import MAX_DROP
from unetpp.runtime.exported_file import RUNTIMES
from unetpp.selection import is_selection

if TYPE_CHECKING:
    from unetpp.infer.predictor import Predictor
    from unetpp.infer.selected import SelectedPredictor


def load(
    path: str | PathLike[str], device: str = "auto", backend: str = "auto", max_drop: float = MAX_DROP
) -> Predictor | SelectedPredictor | ExportedPredictor:
    """Load a run folder, whose folds are averaged, one of `unetpp select`, a model file, or an exported .onnx or .xml.

    Threads may share the predictor. On a CPU under Linux, the C library is set to reuse freed memory in the whole
    process (`runtime.device.keep_freed_memory`); nothing else outside the predictor is changed.

    "hf://owner/name" is a repository of the Hugging Face hub (extra `hub`), which is downloaded once.

    Args:
        path: run folder, file or repository.
        device: auto, cpu, cuda or cuda:K.
        backend: torch, cuda (on a GPU), openvino (on a CPU; extra `openvino`), or auto: cuda on a GPU, openvino on a
            CPU where it is installed and faster.
        max_drop: points (hundredths) of Dice that early exit (`size="auto"`) may lose.

    Raises:
        ModelFileError: no model there, or one that cannot be used.
        UsageError: no such device, or one that does not run the file.
        MissingExtraError: a package is missing: huggingface_hub for a repository, or the runtime of the file.
    """
    given: Any = path
    if not isinstance(given, str | PathLike):
        action = 'Write a network as a file first: `unetpp.save(net, "model.safetensors")`.'
        raise UsageError("path", type(given).__name__, "the path of a model", action)
    if str(path).startswith(HUB):
        path = download(str(path).removeprefix(HUB))
    if Path(path).suffix in RUNTIMES:
        return load_exported(Path(path), device, backend)
    with naming_missing("Prediction with a model file"):
        if is_selection(Path(path)):
            from unetpp.infer.selected import load_selected

            return load_selected(Path(path), device, backend)
        from unetpp.infer.predictor import load_predictor

    return load_predictor(path, device, backend, max_drop)
