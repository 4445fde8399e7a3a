"""Header of a model file, read without torch.

A model file is one .safetensors: 8 bytes with the length of the header, the header as JSON, the weights. The header's
`__metadata__` holds `unetpp` (version of this format), `plan` and `notes` (scores, depths, provenance), as JSON text;
and `parameters`, the number of weights, where shells leave out some of those in the tensors.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from pydantic import BaseModel, NonNegativeInt, TypeAdapter, ValidationError

from unetpp.errors import ModelFileError, PlanError
from unetpp.json_files import parse_json
from unetpp.model_notes import Notes
from unetpp.plan import Plan
from unetpp.words import write_command

FORMAT_VERSION = "1"
MAX_HEADER_BYTES = 100_000_000
ZIP, PICKLE = b"PK\x03\x04", b"\x80"
"""First bytes of what torch.save writes, now and in torch's old format."""


class TensorEntry(BaseModel):
    """Entry of a tensor in the header of a .safetensors."""

    dtype: str
    shape: tuple[NonNegativeInt, ...]
    data_offsets: tuple[NonNegativeInt, NonNegativeInt]


_ENTRIES = TypeAdapter(dict[str, TensorEntry])
_METADATA = TypeAdapter(dict[str, str])


@dataclass(frozen=True)
class ModelHeader:
    """Header of a model file."""

    plan: Plan
    parameters: int
    """Number of weights that exist: without zeros that shells leave in the tensors."""
    file_bytes: int
    notes: Notes
    """Scores and origin, recorded when the file was written."""


def read_header(path: Path) -> ModelHeader:
    """Read plan and notes of a model file, and check that the file is complete.

    Raises:
        ModelFileError: the file is absent, truncated, no model file of unetpp, or of another version.
    """
    metadata, tensors = read_safetensors_header(path)
    version = metadata.get("unetpp")
    if version != FORMAT_VERSION:
        got = "a .safetensors without unetpp's plan" if version is None else f"format version {version}"
        expected = f"a model file of format version {FORMAT_VERSION}"
        raise ModelFileError(path, got, expected, "Train or export it with this release of unetpp.")
    try:
        plan = Plan.from_json(metadata["plan"], f"{path} (plan)")
        notes = Notes.model_validate_json(metadata.get("notes", "{}"))
        parameters = int(metadata["parameters"]) if "parameters" in metadata else _count_parameters(plan, tensors)
    except (PlanError, KeyError, ValueError) as error:
        reason: object = error
        if isinstance(error, ValidationError):
            problem = error.errors()[0]
            reason = f"{'.'.join(map(str, ('notes', *problem['loc'])))}: {problem['msg']}"
        got, expected = f"a header that cannot be used ({reason})", "a plan and notes of this version"
        raise ModelFileError(path, got, expected, "Use the release of unetpp that wrote it.") from None
    return ModelHeader(plan, parameters, path.stat().st_size, notes)


def _count_parameters(plan: Plan, tensors: Mapping[str, TensorEntry]) -> int:
    if len(plan.model.shells) > 1:  # a file that does not tell it
        from unetpp.model.weight_count import count_parameters

        return count_parameters(plan.model)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return sum(prod(entry.shape) for name, entry in tensors.items() if not name.endswith(statistics))


def read_safetensors_header(path: Path) -> tuple[dict[str, str], dict[str, TensorEntry]]:
    """Read metadata and tensor entries of a .safetensors file, and check its size against them.

    Raises:
        ModelFileError: the file is absent, truncated, or no .safetensors.
    """
    try:
        size = path.stat().st_size
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ValueError("it is a pipe or a device")  # opening it would wait for ever
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
            if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
                raise ValueError("its first bytes are not those of a .safetensors")
            header = parse_json(file.read(length))
        metadata = _METADATA.validate_python(header.pop("__metadata__", {}))
        entries = _ENTRIES.validate_python(header)
        end = 8 + length + max((entry.data_offsets[1] for entry in entries.values()), default=0)
    except FileNotFoundError:
        expected = "a model file (.safetensors) or a run folder"
        raise ModelFileError(path, "no such file", expected, "Check the path.") from None
    except OSError as error:
        expected, action = "a readable model file (.safetensors)", "Check the path and its permissions."
        raise ModelFileError(path, str(error.strerror), expected, action) from None
    except (ValueError, TypeError, AttributeError) as error:
        reason = f"its header: {error.errors()[0]['msg']}" if isinstance(error, ValidationError) else error
        raise _refuse_foreign(path, str(reason)) from None
    if end != size:
        expected = f"{end}, so the file is truncated or damaged"
        raise ModelFileError(path, f"{size} bytes", expected, "Copy it again.")
    return metadata, entries


def _refuse_foreign(path: Path, reason: str) -> ModelFileError:
    """Say what a file is that is no .safetensors, and how to get a model from it."""
    expected = "a model file (.safetensors) that unetpp wrote"
    if not path.is_file():  # a pipe would be waited for
        return ModelFileError(path, f"no file ({reason})", expected, "Check the path.")
    with path.open("rb") as file:
        is_of_torch = file.read(len(ZIP)).startswith((ZIP, PICKLE))
    if path.suffix == ".pt2":
        got, action = "an export for torch.export.load", "Name the model file, or export it to .onnx or .xml."
    elif is_of_torch:
        got = "a checkpoint of torch.save"
        action = f"Convert it: `{write_command('import', path, '--out', 'model.safetensors')}`."
    elif path.suffix == ".safetensors":
        got, action = f"a file that is no model ({reason})", "Copy it again, or train it again."
    else:
        got, action = "a file that is no model", "Check the path."
    return ModelFileError(path, got, expected, action)
