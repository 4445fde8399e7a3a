"""Model files: weights and JSON in one .safetensors. Nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from unetpp.errors import ModelFileError
from unetpp.files import write_atomically
from unetpp.model.build import build_from_plan
from unetpp.model.header import FORMAT_VERSION, ModelHeader, read_header
from unetpp.model.network import UNetPlusPlus
from unetpp.model.weight_count import count_parameters, count_weights
from unetpp.model_notes import Notes
from unetpp.plan import Plan


def save_model(
    path: Path, weights: Mapping[str, Tensor], plan: Plan, notes: Notes | None = None, parameters: int | None = None
) -> None:
    """Write a model file, atomically.

    Args:
        path: file to write.
        weights: `state_dict` of the network.
        plan: plan of the network.
        notes: scores and origin.
        parameters: number of weights that exist; None: those of the plan.

    Raises:
        WriteError: it could not be written; what was at `path` is intact.
    """
    if parameters is None and len(plan.model.shells) > 1:  # of others, the shapes in the file tell it
        parameters = count_parameters(plan.model)
    metadata = {
        "format": "pt",
        "unetpp": FORMAT_VERSION,
        "plan": plan.model_dump_json(),
        "notes": (notes or Notes()).to_json(),
        **({} if parameters is None else {"parameters": str(parameters)}),
    }
    write_tensors(path, weights, metadata)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors.

    Raises:
        ModelFileError: it cannot be read.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        got = f"a file that cannot be read ({error})"
        raise ModelFileError(path, got, "the weights that unetpp wrote", "Copy it again.") from None
    return tensors


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a .safetensors, atomically.

    Args:
        path: file to write.
        tensors: tensors by name.
        metadata: texts by name.

    Raises:
        WriteError: it could not be written; what was at `path` is intact.
    """
    # safetensors makes the bytes and Python writes them, so that a full disk is an OSError as everywhere
    content = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata=dict(metadata)
    )
    header, weights = _sort_metadata(content)
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        file.write(header)
        file.write(weights)


def _sort_metadata(content: bytes) -> tuple[bytes, memoryview]:
    """Divide a .safetensors into header and weights; the metadata are sorted, so that equal content is equal bytes."""
    end = 8 + int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8:end])
    metadata = header.pop("__metadata__", {})
    text = json.dumps({"__metadata__": dict(sorted(metadata.items())), **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # weights begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text, memoryview(content)[end:]


def _require_sound(path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse weights of other number types than the network's, and weights that are not finite."""
    for name, tensor in tensors.items():
        if name in expected and tensor.dtype != expected[name].dtype:
            got, wanted = f"the weight {name} in {tensor.dtype}", str(expected[name].dtype)
        elif tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            got, wanted = f"the weight {name} with numbers that are NaN or infinite", "finite numbers"
        else:
            continue
        raise ModelFileError(path, got, wanted, "The file is damaged: copy it again, or train again.")


def load_model(path: Path) -> tuple[UNetPlusPlus, ModelHeader]:
    """Load the network of a model file, in evaluation mode on the CPU, and its header.

    Raises:
        ModelFileError: the file is truncated, foreign or of another version, or its weights do not fit its plan.
    """
    header = read_header(path)
    network = build_from_plan(header.plan.model)
    try:
        tensors = read_tensors(path)
        _require_sound(path, tensors, network.state_dict())
        network.load_state_dict(tensors)
    except RuntimeError as error:
        got = f"weights that do not fit the plan in the file ({str(error).splitlines()[0]})"
        raise ModelFileError(path, got, "those of its network", "Copy it again.") from None
    network.absent_weights = max(0, count_weights(network) - header.parameters)
    return network.eval(), header
