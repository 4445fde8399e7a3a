"""ONNX Runtime and OpenVINO, and the exported files that they run. Needs no torch."""

from __future__ import annotations

import functools
import html
import os
import re
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from unetpp.errors import MissingExtraError, ModelFileError, optional_package
from unetpp.json_files import parse_json
from unetpp.model_notes import ExportNotes
from unetpp.plan import DataPlan, PredictPlan
from unetpp.selection import Selection

if TYPE_CHECKING:
    import numpy as np  # `info` describes exported files without it

KEY = "unetpp"
"""Name of the entry that describes an exported file, as JSON; see `deploy.export.model_card.describe`."""
IMAGE, PROBABILITIES = "image", "probabilities"
"""Names of the graph's input (B, C, *spatial) and output (B, classes, *spatial), both float32. Of several outputs, the
depth follows: probabilities_2."""
ExportedNetwork = Callable[["np.ndarray", Sequence[int]], Sequence["np.ndarray"]]
"""Maps normalized images (B, C, *spatial) float32, and positions of outputs in ascending order, to the probabilities
(B, classes, *spatial) of each of these outputs."""
RUNTIMES = {".onnx": "onnxruntime", ".xml": "openvino"}
"""Suffix of an exported file -> the runtime that runs it."""
BACKEND_OPENVINO = '`backend="openvino"`'
"""The purpose of loading OpenVINO, for errors."""
_MAX_DESCRIPTION, _MAX_GRAPH = 10_000_000, 1_000_000_000
"""Largest numbers of bytes that are read of a file whose author is not known."""
_EXPECTED = "one that `unetpp export` wrote"


@dataclass(frozen=True)
class Description:
    """What an exported file says of itself."""

    data: DataPlan
    tiles: PredictPlan
    """Tile, overlap, and the depth of a prediction for which none is given."""
    notes: ExportNotes
    selection: Selection | None = None
    """What `unetpp select` chose, if it was that: what comes after the networks."""


def disable_telemetry() -> None:
    """Keep OpenVINO, NNCF and ONNX Runtime from reporting their use over the network; called before their import."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))


def load_openvino(purpose: str) -> Any:
    """Import OpenVINO without its telemetry.

    Raises:
        MissingExtraError: it is not installed.
    """
    disable_telemetry()
    with optional_package("openvino", "openvino", purpose):
        import openvino
    return openvino


def load_onnxruntime() -> Any:
    """Import ONNX Runtime without its telemetry.

    Raises:
        MissingExtraError: it is not installed.
    """
    disable_telemetry()
    with optional_package("onnxruntime", "runtime", "to run a file in the format ONNX"):
        import onnxruntime
    return onnxruntime


def openvino_core(purpose: str = BACKEND_OPENVINO) -> Any:
    """Return the openvino.Core of this process, which reads and compiles.

    There is only one: the CPU plugin of each core gives the thread a stack for signals. Of two plugins alive at the
    same time, the second to be freed restores the stack of the first, which is gone, and the next Ctrl-C would be a
    segmentation fault.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    openvino = load_openvino(purpose)
    with _CORE_LOCK:
        return _make_core(openvino.Core)


_CORE_LOCK = threading.Lock()
_make_core = functools.cache(lambda core: core())


def read_description(path: Path) -> dict[str, Any]:
    """Read the description in an exported .onnx, .xml or .pt2; its network is not loaded, and nothing is unpickled.

    Returns:
        What `unetpp export` wrote there; empty if another program made the file.

    Raises:
        ModelFileError: it cannot be read.
    """
    if not path.is_file():
        raise ModelFileError(path, "no such file", _EXPECTED, "Check the path.")
    try:
        text = _FINDERS[path.suffix](path)
        description = parse_json(text or "{}")
        if not isinstance(description, dict):
            raise ValueError("no JSON object")
    except Exception as error:  # damaged files raise anything
        got = f"a file whose description cannot be read ({error})"
        raise ModelFileError(path, got[:300], _EXPECTED, "Export it again.") from error
    return description


def parse_description(about: dict[str, Any], where: str) -> Description:
    """Parse a description. Files of earlier versions have one output and no scores.

    Args:
        about: as `read_description` returns it.
        where: name of the file, for errors.

    Raises:
        ModelFileError: it is not one that `unetpp export` writes.
    """
    try:
        data = DataPlan.model_validate({key: about[key] for key in DataPlan.model_fields if key in about})
        tiles = PredictPlan(tile=about["tile"], overlap=about["overlap"], depth=about["depth"])
        rest = {key: about[key] for key in ExportNotes.model_fields if key in about}
        notes = ExportNotes.model_validate({"depths": {tiles.depth: {}}, **rest})
        if len(tiles.tile) != data.dims or tiles.depth not in notes.depths:
            raise ValueError("parts that do not fit together")
        selection = Selection.model_validate(about["selection"]) if "selection" in about else None
        if selection and any(index >= data.num_classes for step in selection.steps for index in step.classes):
            raise ValueError("a post-processing of other classes")
    except (KeyError, TypeError, ValueError) as error:
        got = "a file without a description of its network"
        raise ModelFileError(where, got, _EXPECTED, "Export it again.") from error
    return Description(data, tiles, notes, selection)


def open_exported(path: Path, exact: bool = False) -> tuple[ExportedNetwork, dict[str, Any]]:
    """Open an exported .onnx or .xml.

    Args:
        path: the file.
        exact: compute in float32, where OpenVINO would use bfloat16 on processors that have it.

    Returns:
        The network, and the description inside the file: empty if another program made it.

    Raises:
        ModelFileError: it cannot be read.
        MissingExtraError: its runtime is not installed.
    """
    about = read_description(path)
    try:
        return {".onnx": _open_onnx, ".xml": _open_openvino}[path.suffix](path, about, exact), about
    except MissingExtraError:
        raise
    except Exception as error:  # each runtime has its own
        reason = " ".join(str(error).split())[-200:] or type(error).__name__
        got = f"a file that {RUNTIMES[path.suffix]} cannot run ({reason})"
        raise ModelFileError(path, got, _EXPECTED, "Export it again.") from error


def _open_onnx(path: Path, about: dict[str, Any], exact: bool) -> ExportedNetwork:
    onnxruntime = load_onnxruntime()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = len(outputs) > 1  # a shallow head does not wait for the deep ones

    def run(image: np.ndarray, heads: Sequence[int]) -> Sequence[np.ndarray]:
        found: Sequence[np.ndarray] = session.run([outputs[head] for head in heads], {IMAGE: image}, options)
        return found

    return run


def _open_openvino(path: Path, about: dict[str, Any], exact: bool) -> ExportedNetwork:
    core = openvino_core("to run a file for OpenVINO")
    tile = tuple(about.get("tile", ()))
    options = {"INFERENCE_PRECISION_HINT": "f32"} if exact else {}

    @functools.cache
    def compiled(size: tuple[int, ...], heads: tuple[int, ...]) -> Any:
        model = core.read_model(path)
        for number, result in enumerate(model.get_results()):
            if number not in heads:
                model.remove_result(result)
        return core.compile_model(_fix_size(model, size), "CPU", options)

    depths = [*about.get("depths", ())]
    compiled(tile, (depths.index(str(about["depth"])) if len(depths) > 1 else 0,))  # here, where errors are told
    lock = threading.Lock()  # a compiled graph has one inference request, which threads cannot share

    def run(image: np.ndarray, heads: Sequence[int]) -> Sequence[np.ndarray]:
        with lock:  # all sizes other than a tile's share a graph of dynamic size
            found = compiled(tile if image.shape[2:] == tile else (), tuple(heads))(image)
            return [found[place].copy() for place in range(len(heads))]

    return run


def _fix_size(model: Any, size: tuple[int, ...]) -> Any:
    """Fix the size of the images, and remove the crops and pads for odd sizes: 0.8 of the time (docs/log.md)."""
    if not size:
        return model
    image = model.inputs[0]
    model.reshape({image: [*image.partial_shape[:2], *size]})
    for operation in model.get_ordered_ops():
        source, target = operation.input, operation.output
        if operation.get_type_name() == "Gather" and source(0).get_partial_shape() == target(0).get_partial_shape():
            target(0).replace(operation.input_value(0))
    return model


def _find_in_onnx(path: Path) -> str | None:
    """Find the description among the fields of a ModelProto: metadata_props (14) of entries key (1) and value (2)."""
    with path.open("rb") as file:
        for entry in _read_fields(file, 14):
            if [*_read_fields(BytesIO(entry), 1)] == [KEY.encode()]:
                return b"".join(_read_fields(BytesIO(entry), 2)).decode()
    return None


def _read_fields(stream: BinaryIO, wanted: int) -> Iterator[bytes]:
    """Yield the contents of the fields of one number in a message of protocol buffers; the others are passed over."""
    while (tag := _read_varint(stream)) is not None:
        if tag & 7 not in (0, 2):
            raise ValueError("it is no ONNX file")
        size = _read_varint(stream) or 0  # or the value of a number
        if tag & 7 == 2 and tag >> 3 != wanted:
            stream.seek(size, os.SEEK_CUR)
        elif tag & 7 == 2:
            if size > _MAX_DESCRIPTION:
                raise ValueError(f"it has {size:,} bytes")
            yield stream.read(size)


def _read_varint(stream: BinaryIO) -> int | None:
    """Read an integer of 7 bits a byte, the lowest first; None at the end of the stream."""
    value = 0
    for shift in range(0, 63, 7):
        byte = stream.read(1)
        if not byte:
            return None
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError("it is no ONNX file")


def _find_in_openvino(path: Path) -> str | None:
    """Find the description in the XML of a graph; its weights are in another file."""
    if path.stat().st_size > _MAX_GRAPH:
        raise ValueError(f"it has {path.stat().st_size:,} bytes")
    found = re.findall(rf'<{KEY} value="([^"]*)"', path.read_text(encoding="utf-8"))
    return html.unescape(found[-1]) if found else None


def _find_in_pt2(path: Path) -> str | None:
    """Find the description in a program of torch.export, a ZIP archive."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith(f"/extra/{KEY}"):
                if entry.file_size > _MAX_DESCRIPTION:
                    raise ValueError(f"it has {entry.file_size:,} bytes")
                return archive.read(entry).decode()
    return None


_FINDERS = {".onnx": _find_in_onnx, ".xml": _find_in_openvino, ".pt2": _find_in_pt2}
EXPORTED = tuple(_FINDERS)
"""Suffixes of exported files."""
